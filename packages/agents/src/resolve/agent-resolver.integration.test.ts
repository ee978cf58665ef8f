import { newId, ok, unwrap, type Result } from "@shaman/kernel";
import type { Db } from "@shaman/db";
import { testDatabase, type TestDatabase } from "@shaman/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { completeAgent, readAgentHead, type DefinitionDeps, type ParsedAgent } from "../definition/parse-definition.ts";
import { formatProblem } from "../definition/problem.ts";
import type { FileLookup } from "../definition/prompt-template.ts";
import type { Alias } from "../repository/parse-agents-json.ts";
import { storeCommit } from "../sync/store-commit.ts";
import { acquireSync } from "../sync/sync-lease.ts";
import { createAgentResolver } from "./agent-resolver.ts";
import { resolveCallee } from "./resolve-callee.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await testDatabase();
});
afterAll(() => database.close());

const deps: DefinitionDeps & { readonly lookup: FileLookup } = {
  parseScript: (text) => ok(text),
  lookup: () => ({ kind: "unreadable", reason: "is not there" }),
};

const parsed = (file: string, frontMatter = "exposed: true\n"): ParsedAgent => {
  const head = readAgentHead(deps, { file, text: `---\ndescription: x\n${frontMatter}---\nHi {{prompt}}\n` });
  const agent = head.ok ? completeAgent(deps, head.value) : head;
  if (agent.ok) return agent.value;
  throw new Error(agent.error.map(formatProblem).join("\n"));
};

/** A database that counts its transactions. */
const counting = (db: Db): { readonly db: Db; readonly count: () => number } => {
  let transactions = 0;
  return {
    count: () => transactions,
    db: {
      ...db,
      withOrg: (orgId, work) => {
        transactions += 1;
        return db.withOrg(orgId, work);
      },
    },
  };
};

const givenAgents = async (agents: readonly ParsedAgent[], aliases: readonly Alias[] = [], defaultAgent?: string) => {
  const { orgId } = await database.givenOrg();
  const repositoryId = newId("repo");
  await database.inspect(
    "INSERT INTO repository (org_id, id, name, url, branch) VALUES ($1, $2, 'desk', 'u', 'main')",
    [orgId, repositoryId],
  );
  const store = async (commit: string, content: readonly ParsedAgent[]): Promise<void> => {
    const worker = database.as("worker");
    const acquired = unwrap(await acquireSync(worker, { orgId, repositoryId }));
    if (!("held" in acquired)) throw new Error("somebody else syncs");
    const audit = { orgId, actor: "test", action: "repository:sync", resource: "/", result: "ok" } as const;
    await storeCommit(worker, {
      held: acquired.held,
      commit,
      content: { agents: content, aliases, calls: [], ...(defaultAgent !== undefined && { defaultAgent }) },
      warnings: [],
      audit,
    });
  };
  await store("c1", agents);
  return { orgId, repositoryId, store };
};

const messageOf = (result: Result<unknown>): string => (result.ok ? "ok" : result.error.message);

describe("finding an agent", () => {
  test("that is hot asks the database nothing", async () => {
    const { orgId, repositoryId } = await givenAgents([parsed("A.md"), parsed("B.md", "")]);
    const { db, count } = counting(database.as("public"));
    const resolver = createAgentResolver({ db, clock: { now: () => 0 } });
    const first = unwrap(await resolver.resolveExposed({ orgId, name: "A" }));
    unwrap(await resolver.resolvePinned({ orgId, repositoryId, commit: "c1", path: "B" }));
    const before = count();
    for (let i = 0; i < 100; i += 1) {
      expect(unwrap(await resolver.resolveExposed({ orgId, name: "A" }))).toEqual(first);
      await resolver.resolvePinned({ orgId, repositoryId, commit: "c1", path: "B" });
      await resolver.resolveExposed({ orgId, name: `no-${i}` });
      await resolver.defaultAgent(orgId);
      await resolver.listExposed(orgId);
    }
    expect(count()).toBe(before);
  });

  test("cold, by many at once, is one lookup", async () => {
    const { orgId } = await givenAgents([parsed("A.md")]);
    const { db, count } = counting(database.as("public"));
    const resolver = createAgentResolver({ db, clock: { now: () => 0 } });
    await Promise.all(Array.from({ length: 50 }, () => resolver.resolveExposed({ orgId, name: "A" })));
    expect(count()).toBe(2);
  });

  test("sees a switch within a second, at once when told, and asks no more while every switch is told", async () => {
    const { orgId, store } = await givenAgents([parsed("A.md")]);
    let [nowMs, toldUntilMs] = [0, 0];
    const clock = { now: () => nowMs };
    const alone = createAgentResolver({ db: database.as("public"), clock });
    const told = createAgentResolver({ db: database.as("public"), clock, toldUntilMs: () => toldUntilMs });
    const commitSeenBy = async (resolver: typeof alone) =>
      unwrap(await resolver.resolveExposed({ orgId, name: "A" })).commit;
    expect([await commitSeenBy(alone), await commitSeenBy(told)]).toEqual(["c1", "c1"]);
    await store("c2", [parsed("A.md")]);
    nowMs = 999;
    expect([await commitSeenBy(alone), await commitSeenBy(told)]).toEqual(["c1", "c1"]);
    nowMs = 60_000;
    toldUntilMs = 59_000;
    expect([await commitSeenBy(alone), await commitSeenBy(told)]).toEqual(["c2", "c1"]);
    told.invalidate(orgId);
    expect(await commitSeenBy(told)).toBe("c2");
    await store("c3", [parsed("A.md")]);
    // Nothing is told any more: what was true five seconds ago may be so no longer.
    nowMs = 65_000;
    expect(await commitSeenBy(told)).toBe("c3");
  });

  test("by alias, path and repository leads to the same agent", async () => {
    const aliases: readonly Alias[] = [
      { name: "Money", target: { kind: "agent", path: "billing/Refund" } },
      { name: "Secret", target: { kind: "agent", path: "Hidden" } },
      { name: "Tax", target: { kind: "external", url: "https://tax.example.com/" } },
    ];
    const agents = [parsed("billing/Refund/prompt.md"), parsed("Hidden.md", ""), parsed("Other.md")];
    const { orgId, repositoryId } = await givenAgents(agents, aliases, "billing/Refund");
    const resolver = createAgentResolver({ db: database.as("public"), clock: { now: () => 0 } });
    const { agentId } = unwrap(await resolver.defaultAgent(orgId));
    for (const name of ["Refund", "Money", "billing/Refund", "desk:billing/Refund"]) {
      expect(unwrap(await resolver.resolveExposed({ orgId, name })).agentId, name).toBe(agentId);
    }
    const at = { orgId, repositoryId, commit: "c1" };
    expect(unwrap(await resolver.resolvePinned({ ...at, name: "Money" })).agentId).toBe(agentId);
    expect(unwrap(await resolver.resolvePinned({ ...at, name: "Secret" })).definition.path).toBe("Hidden");
    expect(messageOf(await resolver.resolvePinned({ ...at, name: "Tax" }))).toMatch(/alias for an agent elsewhere/);
    expect((await resolver.listExposed(orgId)).map(({ definition }) => definition.name)).toEqual(["Other", "Refund"]);
  });

  test("that is private, or reached by an alias for a private one, is not found, and never suggested", async () => {
    const aliases: readonly Alias[] = [{ name: "Hiding", target: { kind: "agent", path: "Hidden" } }];
    const { orgId } = await givenAgents([parsed("Hidden.md", ""), parsed("Hidder.md"), parsed("Refund.md")], aliases);
    const resolver = createAgentResolver({ db: database.as("public"), clock: { now: () => 0 } });
    const ask = async (name: string) => messageOf(await resolver.resolveExposed({ orgId, name }));
    expect(await ask("Hidden")).toBe('There is no agent "Hidden". Did you mean Hidder?');
    expect(await ask("Hiddem")).toBe('There is no agent "Hiddem". Did you mean Hidder?');
    expect(await ask("Hiding")).toBe('There is no agent "Hiding".');
    expect(await ask("Refudn")).toBe('There is no agent "Refudn". Did you mean Refund?');
    expect(await ask("__proto__")).toBe('There is no agent "__proto__".');
    expect(messageOf(await resolver.defaultAgent(orgId))).toMatch(/no default agent/);
  });

  test("that is the only exposed one answers for the organization", async () => {
    const { orgId } = await givenAgents([parsed("Only.md"), parsed("Hidden.md", "")]);
    const resolver = createAgentResolver({ db: database.as("public"), clock: { now: () => 0 } });
    expect(unwrap(await resolver.defaultAgent(orgId)).definition.name).toBe("Only");
  });
});

const givenExternal = async (orgId: string, name: string): Promise<string> => {
  const id = newId("ext");
  await database.inspect(
    `INSERT INTO external_agent (org_id, id, name, card_url, card, card_fetched_at, card_expires_at, card_may_be_stale)
     VALUES ($1, $2, $3, $4, '{}', now(), now(), true)`,
    [orgId, id, name, `https://${name}.example.com/`],
  );
  return id;
};

describe("what an agent means by a name", () => {
  const CALLS = "exposed: true\ncalls: [Partner, Elsewhere, Refund, Gone]\n";
  const aliases: readonly Alias[] = [
    { name: "Money", target: { kind: "agent", path: "Refund" } },
    { name: "Tax", target: { kind: "external", url: "https://tax.example.com/card.json" } },
  ];

  const givenCallers = async () => {
    const agents = [parsed("Desk.md", CALLS), parsed("Clerk.md", "calls: [Partner]\n"), parsed("Refund.md", "")];
    const { orgId, repositoryId } = await givenAgents(agents, aliases);
    const db = database.as("internal");
    const resolver = createAgentResolver({ db, clock: { now: () => 0 } });
    const ask = async (path: string, name: string) => {
      const caller = unwrap(await resolver.resolvePinned({ orgId, repositoryId, commit: "c1", path }));
      return resolveCallee({ db, agents: resolver }, { orgId, caller, name });
    };
    return { orgId, ask };
  };

  test("is an alias or an agent of its repository first, private ones too, whatever is registered under the name", async () => {
    const { orgId, ask } = await givenCallers();
    await givenExternal(orgId, "Refund");
    await givenExternal(orgId, "Tax");
    for (const name of ["Refund", "Money"]) {
      expect(unwrap(await ask("Desk", name))).toMatchObject({
        kind: "agent",
        agent: { definition: { path: "Refund" } },
      });
    }
    const target = { kind: "url", url: "https://tax.example.com/card.json", name: "Tax" };
    expect(unwrap(await ask("Desk", "Tax"))).toEqual({ kind: "external", target });
    expect(unwrap(await ask("Clerk", "Tax"))).toEqual({ kind: "external", target });
  });

  test("is a registered outside agent if its file lists it and it is exposed; a private agent is told to use an alias", async () => {
    const { orgId, ask } = await givenCallers();
    const externalAgentId = await givenExternal(orgId, "Partner");
    const target = { kind: "registered", externalAgentId, name: "Partner" };
    expect(unwrap(await ask("Desk", "Partner"))).toEqual({ kind: "external", target });
    const refused = await ask("Clerk", "Partner");
    expect(refused).toMatchObject({ ok: false, error: { code: "agent_needs_alias" } });
  });

  test("is unknown when its file does not list it, when it is another organization's, or nobody's; near names are told", async () => {
    const { orgId, ask } = await givenCallers();
    const { orgId: otherOrg } = await database.givenOrg();
    await givenExternal(orgId, "Unlisted");
    await givenExternal(otherOrg, "Partner");
    const unlisted = messageOf(await ask("Desk", "Unlisted"));
    const nobodys = messageOf(await ask("Desk", "Nobodys"));
    expect(unlisted.replace("Unlisted", "Nobodys")).toBe(nobodys);
    expect(messageOf(await ask("Desk", "Partner"))).toMatch(/^Desk knows no agent "Partner"\./);
    expect(messageOf(await ask("Desk", "Partnr"))).toMatch(/Did you mean Partner\?/);
    expect(messageOf(await ask("Clerk", "Refnd"))).toMatch(/Did you mean Refund\?/);
  });
});
