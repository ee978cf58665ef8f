import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { randomBytes } from "node:crypto";

import { createOperatorPrincipal } from "@shaman/access";
import { err, ok, Secret, systemClock, unwrap, type Result } from "@shaman/kernel";
import { createOutbound } from "@shaman/outbound";
import { parseSecretKeys } from "@shaman/secrets";
import { givenGitRemote, givenGitServer, testDatabase, type RemoteFile, type TestDatabase } from "@shaman/testkit";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";

import { renderPrompt } from "../definition/agent-definition.ts";
import type { ParseScript } from "../definition/parse-definition.ts";
import { formatProblem } from "../definition/problem.ts";
import { createGitSource } from "../git/git-source.ts";
import { getAgent, listAgents } from "../manage/list-agents.ts";
import { getRepository, listRepositories } from "../manage/list-repositories.ts";
import { registerRepository, type RegisterRepositoryInput } from "../manage/register-repository.ts";
import { removeRepository } from "../manage/remove-repository.ts";
import { listDueRepositories, requestSync } from "../manage/request-sync.ts";
import { createAgentResolver, type AgentResolver } from "../resolve/agent-resolver.ts";
import { syncRepository, type SyncReport } from "./sync-repository.ts";

let database: TestDatabase;
let cacheDir: string;
beforeAll(async () => {
  database = await testDatabase();
  cacheDir = await mkdtemp(join(tmpdir(), "shaman-cache-"));
});
afterAll(async () => {
  await database.close();
  await rm(cacheDir, { recursive: true, force: true });
});

const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close();
});

const parsedKeys = parseSecretKeys(`k1:${randomBytes(32).toString("base64url")}`);
if (!parsedKeys.ok) throw new Error(parsedKeys.error);
const secretKeys = parsedKeys.value;
const parseScript: ParseScript = (text, file) =>
  text.includes("broken") ? err([{ file, line: 2, message: "is broken" }]) : ok(text);

type Files = Readonly<Record<string, RemoteFile>>;

const agent = (frontMatter = "", body = "You help."): string => `---\ndescription: Helps\n${frontMatter}---\n${body}\n`;
const exposed = (body = "You help."): string => agent("exposed: true\n", body);

/** An organization, and what it does with repositories. */
const given = async () => {
  const { orgId } = await database.givenOrg();
  const principal = createOperatorPrincipal({ orgId, name: "test" });
  const management = { db: database.as("web"), origin: { server: "cli" }, secretKeys };
  const resolver = (): AgentResolver => createAgentResolver({ db: database.as("public"), clock: systemClock });

  const repository = async (name: string, input: Partial<RegisterRepositoryInput> = {}) => {
    const remote = await givenGitRemote();
    closing.push(remote.close);
    const outbound = createOutbound({ allowLoopback: true, mapLocalhost: true, gitFileRoot: remote.root });
    closing.push(outbound.close);
    const git = createGitSource({ cacheDir, checkGitUrl: outbound.checkGitUrl });
    const registered = unwrap(
      await registerRepository({ ...management, checkGitUrl: outbound.checkGitUrl }, principal, {
        name,
        url: remote.url,
        ...input,
      }),
    );
    const deps = { db: database.as("worker"), git, secretKeys, parseScript };
    const sync = () => syncRepository(deps, { orgId, repositoryId: registered.repositoryId });
    return {
      remote,
      repositoryId: registered.repositoryId,
      sync,
      push: async (files: Files): Promise<{ readonly commit: string; readonly report: SyncReport }> => {
        const commit = await remote.commit(files);
        return { commit, report: unwrap(await sync()) };
      },
    };
  };
  return { orgId, principal, management, resolver, repository };
};

const problemsOf = (report: SyncReport): readonly string[] =>
  report.outcome === "refused" ? report.problems.map(formatProblem) : [];

const codeOf = (result: Result<unknown>): string => (result.ok ? "ok" : result.error.code);

describe("a sync", () => {
  test("makes a commit live as a whole: agents, includes, scripts, aliases, default", async () => {
    const { orgId, principal, management, resolver, repository } = await given();
    const { push, repositoryId } = await repository("desk");
    const { commit, report } = await push({
      "ProcessOrder.md": agent(
        'exposed: true\ntags: [orders]\nversion: "1.0"\n',
        "Take the order. {{> parts/tone.md}} {{prompt}}",
      ),
      "billing/Refund/prompt.md": agent("model: scripted/refund.yaml\n"),
      "billing/Refund/refund.yaml": "turns: ü",
      "parts/tone.md": "Be kind, {{prompt}}.\n",
      "agents.json":
        '{"Order": {"url": "ProcessOrder"}, "Tax": {"url": "https://tax.example.com/"}, "default": "ProcessOrder"}',
      "README.md": "hello",
    });
    expect(report).toEqual({ outcome: "switched", commit, changes: { agents: 2, added: 2, changed: 0, removed: 0 } });

    const resolved = unwrap(await resolver().resolveExposed({ orgId, name: "ProcessOrder" }));
    expect(resolved).toMatchObject({ orgId, repositoryId, commit, definition: { version: "1.0", tags: ["orders"] } });
    expect(renderPrompt(resolved.definition, "X")).toBe("Take the order. Be kind, X. X\n");
    expect(unwrap(await resolver().resolveExposed({ orgId, name: "Order" })).agentId).toBe(resolved.agentId);
    expect(unwrap(await resolver().defaultAgent(orgId)).agentId).toBe(resolved.agentId);
    const pinned = createAgentResolver({ db: database.as("internal"), clock: systemClock });
    const refund = unwrap(await pinned.resolvePinned({ orgId, repositoryId, commit, name: "Refund" }));
    expect(refund.definition.script).toEqual({ file: "billing/Refund/refund.yaml", text: "turns: ü" });

    const view = unwrap(await getRepository(management, principal, "desk"));
    expect(view).toMatchObject({
      state: "ok",
      liveCommit: commit,
      seenCommit: commit,
      agents: 2,
      problems: [],
      error: null,
    });
    const shown = unwrap(await getAgent(management, principal, "billing/Refund"));
    expect(shown).toMatchObject({ name: "Refund", exposed: false, repository: "desk", commit });
    const audit = await database.inspect(
      "SELECT action, resource, result FROM audit_log WHERE org_id = $1 ORDER BY id",
      [orgId],
    );
    expect(audit).toEqual([
      { action: "repository:create", resource: "/repositories/desk/", result: "ok" },
      { action: "repository:sync", resource: "/repositories/desk/", result: "ok" },
    ]);
  });

  test("warns of agents that are called and not there, keeps that with the repository, and goes live all the same", async () => {
    const { orgId, principal, management, repository } = await given();
    await database.inspect(
      `INSERT INTO external_agent (org_id, id, name, card_url, card, card_fetched_at, card_expires_at, card_may_be_stale)
       VALUES ($1, 'ext_1', 'Partner', 'https://p.example.com/', '{}', now(), now(), true)`,
      [orgId],
    );
    const stock = await repository("stock");
    await stock.push({
      "goods/Stock.md": exposed(),
      "Hidden.md": agent(),
      "agents.json": '{"Store": {"url": "goods/Stock"}}',
    });
    const desk = await repository("desk");
    const calls = (...names: readonly string[]) => agent(`exposed: true\ncalls: [${names.join(", ")}]\n`);
    const warnings = async () => unwrap(await getRepository(management, principal, "desk")).problems.map(formatProblem);

    await desk.push({ "Own.md": exposed(), "Old.md": exposed() });
    const there = ["Stock", "goods/Stock", "stock:goods/Stock", "Store", "Partner", "Own", "desk:Own"];
    const { report } = await desk.push({ "Own.md": exposed(), "A.md": calls(...there, "Hidden", "Partnr", "Old") });
    expect(report.outcome).toBe("switched");
    const then = "at the time of this sync, so that it cannot be called.";
    const told = [
      `A.md:4 warning: calls: there is no agent Hidden ${then}`,
      `A.md:4 warning: calls: there is no agent Partnr ${then} Did you mean Partner?`,
      `A.md:4 warning: calls: there is no agent Old ${then}`,
    ];
    expect(await warnings()).toEqual(told);
    expect(unwrap(await desk.sync()).outcome).toBe("unchanged");
    expect(await warnings()).toEqual(told);
    const listed = unwrap(await listRepositories(management, principal)).repositories;
    expect(listed.map(({ state, problemCount }) => [state, problemCount])).toEqual([
      ["ok", 0],
      ["ok", 0],
    ]);

    await desk.push({ "Own.md": exposed(), "A.md": calls(...there) });
    expect(await warnings()).toEqual([]);
  });

  test("does nothing when the branch has not moved", async () => {
    const { orgId, repository } = await given();
    const { push, sync } = await repository("desk");
    const { commit } = await push({ "A.md": exposed() });
    expect(unwrap(await sync())).toEqual({ outcome: "unchanged", commit });
    const [audit] = await database.inspect<{ count: string }>("SELECT count(*)::int FROM audit_log WHERE org_id = $1", [
      orgId,
    ]);
    expect(audit?.count).toBe(2);
  });

  test("keeps what did not change, makes a version for what did, and finds an old version again", async () => {
    const { orgId, resolver, repository } = await given();
    const { push } = await repository("desk");
    await push({ "A.md": exposed("one"), "B.md": exposed(), "C.md": exposed() });
    const before = unwrap(await resolver().resolveExposed({ orgId, name: "A" }));
    const { report } = await push({ "A.md": exposed("two"), "C/prompt.md": exposed(), "D.md": exposed() });
    expect(report).toMatchObject({ changes: { agents: 3, added: 1, changed: 2, removed: 1 } });
    const after = unwrap(await resolver().resolveExposed({ orgId, name: "A" }));
    expect(after.agentId).toBe(before.agentId);
    expect(after.versionId).not.toBe(before.versionId);
    expect(codeOf(await resolver().resolveExposed({ orgId, name: "B" }))).toBe("agent_not_found");

    await push({ "A.md": exposed("one"), "B.md": exposed() });
    expect(unwrap(await resolver().resolveExposed({ orgId, name: "A" })).versionId).toBe(before.versionId);
    expect(codeOf(await resolver().resolveExposed({ orgId, name: "B" }))).toBe("ok");
  });

  test("lets a run go on with the commit it has pinned, whatever is live since", async () => {
    const { orgId, resolver, repository } = await given();
    const { push, repositoryId } = await repository("desk");
    const { commit } = await push({ "A.md": exposed("one"), "B.md": agent() });
    await push({ "A.md": exposed("two") });
    const pinned = resolver();
    const at = { orgId, repositoryId, commit };
    expect(renderPrompt(unwrap(await pinned.resolvePinned({ ...at, path: "A" })).definition, "")).toBe("one\n");
    expect(codeOf(await pinned.resolvePinned({ ...at, name: "B" }))).toBe("ok");
    expect(codeOf(await pinned.resolvePinned({ ...at, path: "C" }))).toBe("agent_not_found");
    expect(codeOf(await pinned.resolvePinned({ ...at, commit: "0".repeat(40), path: "A" }))).toBe("agent_not_found");
    expect(codeOf(await pinned.resolvePinned({ ...at, path: "__proto__" }))).toBe("agent_not_found");
  });

  test("stores an include that many agents share once, and a thousand agents in one go", async () => {
    const { orgId, repository } = await given();
    const { push } = await repository("desk");
    const agents = Object.fromEntries(
      Array.from({ length: 1_000 }, (_, index) => [`A${index}.md`, exposed(`{{> shared.md}} ${index}`)]),
    );
    const { report } = await push({ ...agents, "shared.md": "x".repeat(200_000) });
    expect(report).toMatchObject({ outcome: "switched", changes: { agents: 1_000, added: 1_000 } });
    const [blobs] = await database.inspect(
      "SELECT count(*)::int AS n, sum(length(content))::int < 400000 AS small FROM blob WHERE org_id = $1",
      [orgId],
    );
    expect(blobs).toEqual({ n: 1_001, small: true });
  });

  test("asked for many times at once is one job", async () => {
    const { orgId, repository } = await given();
    const { remote, sync } = await repository("desk");
    const commit = await remote.commit({ "A.md": exposed() });
    const reports = (await Promise.all(Array.from({ length: 6 }, sync))).map(unwrap);
    expect(reports.filter(({ outcome }) => outcome === "switched")).toHaveLength(1);
    expect(reports.every((report) => report.commit === commit)).toBe(true);
    const [audit] = await database.inspect(
      "SELECT count(*)::int AS n FROM audit_log WHERE org_id = $1 AND action = 'repository:sync'",
      [orgId],
    );
    expect(audit).toEqual({ n: 1 });
  });

  test("that died is taken over, and cannot write any more", async () => {
    const { orgId, repository } = await given();
    const { push, remote, repositoryId, sync } = await repository("desk");
    await push({ "A.md": exposed() });
    await database.inspect(
      "UPDATE repository SET sync_state = 'syncing', sync_token = 'dead', sync_until = now() - interval '1 second' WHERE org_id = $1 AND id = $2",
      [orgId, repositoryId],
    );
    const commit = await remote.commit({ "B.md": exposed() });
    expect(unwrap(await sync())).toMatchObject({ outcome: "switched", commit });
  });

  test("removes old snapshots that no unfinished run needs", async () => {
    const { orgId, repository } = await given();
    const { push, repositoryId } = await repository("desk");
    const old = await push({ "A.md": exposed("1") });
    const pinned = await push({ "A.md": exposed("2") });
    const called = await push({ "A.md": exposed("called") });
    await database.inspect("UPDATE snapshot SET created_at = now() - interval '31 days' WHERE org_id = $1", [orgId]);
    await database.inspect(
      `INSERT INTO run (org_id, id, root_task_id, context_id, principal, agent, repository_id, commit, state)
       VALUES ($1, 'run_1', 'task_1', 'ctx_1', 'key:1', 'A', $2, $3, 'suspended')`,
      [orgId, repositoryId, pinned.commit],
    );
    await database.inspect(
      `WITH calling AS (
         INSERT INTO run (org_id, id, root_task_id, context_id, principal, agent, repository_id, commit, state)
         VALUES ($1, 'run_2', 'task_2', 'ctx_2', 'key:1', 'B', 'repo_elsewhere', 'x', 'suspended'))
       INSERT INTO run_pin (org_id, run_id, repository_id, commit) VALUES ($1, 'run_2', $2, $3)`,
      [orgId, repositoryId, called.commit],
    );
    const { commit } = await push({ "A.md": exposed("3") });
    const left = await database.inspect<{ commit: string }>("SELECT commit FROM snapshot WHERE org_id = $1", [orgId]);
    expect(left.map((row) => row.commit).toSorted()).toEqual([pinned.commit, called.commit, commit].toSorted());
    expect(old.commit).not.toBe(commit);
  });
});

const includeLoop: Files = { "A.md": exposed("{{> one.md}}"), "one.md": "{{> two.md}}", "two.md": "{{> one.md}}" };
const bomb = [
  "a: &a [x, x, x, x, x, x, x, x, x]",
  ..."bcdefghi".split("").map((name, index) => `${name}: &${name} [${`*${"abcdefgh"[index]}, `.repeat(9)}x]`),
].join("\n");

describe("a commit with something wrong in it", () => {
  test.each<readonly [string, Files, RegExp]>([
    ["a symbolic link for an agent", { "Evil.md": { symlink: "/etc/passwd" } }, /^Evil\.md:1 is a symbolic link/],
    ["a submodule for an agent", { "Sub.md": { submodule: "1".repeat(40) } }, /^Sub\.md:1 is a submodule/],
    [
      "a YAML bomb",
      { "Bomb.md": `---\n${bomb}\n---\n` },
      /^Bomb\.md:\d+ cannot be read as YAML: Excessive alias count/,
    ],
    [
      "front matter in JavaScript",
      { "Js.md": "---js\n{ description: process.exit() }\n---\n" },
      /^Js\.md:1 front matter must begin with --- alone/,
    ],
    [
      "an agent file of 50 MB",
      { "Huge.md": Buffer.concat([Buffer.from(exposed()), Buffer.alloc(50 * 1024 * 1024, "x")]) },
      /^Huge\.md:1 is larger than 64 kB/,
    ],
    [
      "an include that leaves the repository",
      { "Out.md": exposed("{{> ../../etc/passwd}}") },
      /^Out\.md:5 include .* leads out of/,
    ],
    ["includes that loop", includeLoop, /^two\.md:1 include one\.md loops/],
    [
      "one name twice",
      { "a/Twin.md": exposed(), "b/Twin.md": exposed() },
      /^b\/Twin\.md:1 the name Twin is already that of the agent in a\/Twin\.md/,
    ],
    ["a broken script", { "S.md": agent("model: scripted/s.yaml\n"), "s.yaml": "x\nbroken" }, /^s\.yaml:2 is broken/],
    ["a broken agents.json", { "agents.json": '{\n"A": {"url": "Nope"}}' }, /^agents\.json:2 A\.url is no agent/],
  ])(
    "such as %s is refused with file and reason, and the last good commit goes on serving",
    async (_, files, reason) => {
      const { orgId, principal, management, resolver, repository } = await given();
      const { push, sync } = await repository("desk");
      const good = await push({ "Good.md": exposed() });
      const bad = await push({ "Good.md": exposed("newer"), ...files });
      expect(bad.report).toMatchObject({ outcome: "refused", commit: bad.commit, liveCommit: good.commit });
      expect(problemsOf(bad.report)[0]).toMatch(reason);
      const view = unwrap(await getRepository(management, principal, "desk"));
      expect(view).toMatchObject({ state: "failed", liveCommit: good.commit, seenCommit: bad.commit });
      expect(view.problems.map(formatProblem)[0]).toMatch(reason);
      const resolved = unwrap(await resolver().resolveExposed({ orgId, name: "Good" }));
      expect(resolved.commit).toBe(good.commit);
      expect(renderPrompt(resolved.definition, "")).toBe("You help.\n");

      expect(unwrap(await sync())).toMatchObject({ outcome: "refused" });
      const mended = await push({ "Good.md": exposed("mended") });
      expect(mended.report.outcome).toBe("switched");
      const after = unwrap(await getRepository(management, principal, "desk"));
      expect(after).toMatchObject({ state: "ok", problems: [], error: null });
      const audit = await database.inspect(
        "SELECT result FROM audit_log WHERE org_id = $1 AND action = 'repository:sync' ORDER BY id",
        [orgId],
      );
      expect(audit.map((row) => row.result)).toEqual(["ok", "failed", "ok"]);
    },
  );

  test("is told in signs that steer no terminal", async () => {
    const { repository } = await given();
    const { push } = await repository("desk");
    const { report } = await push({ "a\u001b[2J.md": exposed(), "B.md": exposed("{{> \u001b[31m.md}}") });
    expect(problemsOf(report)).toEqual([
      "B.md:5 include \ufffd[31m.md does not exist",
      expect.stringMatching(/^a\ufffd\[2J\.md:1 "a\ufffd\[2J" in the agent's path must be/),
    ]);
  });

  test("because another repository exposes the name already is refused with both places, until the name is free", async () => {
    const { orgId, resolver, repository } = await given();
    const [first, second] = [await repository("first"), await repository("second")];
    await first.push({ "teams/Order.md": exposed("first"), "agents.json": '{"Buy": {"url": "teams/Order"}}' });
    const clash = await second.push({ "Order.md": exposed("second"), "Buy.md": exposed() });
    expect(problemsOf(clash.report)).toEqual([
      "Buy.md:1 the name Buy is already exposed by the repository first (agents.json): rename one, or make it private",
      "Order.md:1 the name Order is already exposed by the repository first (teams/Order.md): rename one, or make it private",
    ]);
    expect(renderPrompt(unwrap(await resolver().resolveExposed({ orgId, name: "Order" })).definition, "")).toBe(
      "first\n",
    );
    expect((await second.push({ "Order.md": agent(), "Buy.md": agent() })).report.outcome).toBe("switched");
    await first.push({ "Other.md": exposed() });
    expect((await second.push({ "Order.md": exposed("second") })).report.outcome).toBe("switched");
    expect(renderPrompt(unwrap(await resolver().resolveExposed({ orgId, name: "Order" })).definition, "")).toBe(
      "second\n",
    );
  });

  test("is refused for one of several repositories that take a name at the same time", async () => {
    const { orgId, repository } = await given();
    const repositories = await Promise.all(["a", "b", "c", "d"].map((name) => repository(name)));
    await Promise.all(repositories.map(({ remote }) => remote.commit({ "Order.md": exposed() })));
    const reports = (await Promise.all(repositories.map(({ sync }) => sync()))).map(unwrap);
    expect(reports.map(({ outcome }) => outcome).toSorted()).toEqual(["refused", "refused", "refused", "switched"]);
    const live = await database.inspect("SELECT 1 FROM agent WHERE org_id = $1 AND live AND exposed", [orgId]);
    expect(live).toHaveLength(1);
  });
});

describe("a repository that cannot be fetched", () => {
  test("says why, keeps serving, and is tried again", async () => {
    const { orgId, principal, management, resolver, repository } = await given();
    const { push, remote, sync } = await repository("desk", { syncEverySeconds: 3600 });
    await push({ "A.md": exposed() });
    await remote.close();
    const failed = await sync();
    expect(codeOf(failed)).not.toBe("ok");
    const view = unwrap(await getRepository(management, principal, "desk"));
    expect(view).toMatchObject({ state: "failed", error: { code: codeOf(failed) }, agents: 1 });
    expect(view.nextSyncAt).not.toBeNull();
    expect(codeOf(await resolver().resolveExposed({ orgId, name: "A" }))).toBe("ok");
  });

  test("with a credential of another origin never gets it", async () => {
    const { orgId, principal, management, repository } = await given();
    const { remote } = await repository("desk");
    await remote.commit({ "A.md": exposed() });
    const server = await givenGitServer({
      root: remote.root,
      authorization: `Basic ${Buffer.from("bot:tok").toString("base64")}`,
    });
    closing.push(server.close);
    const outbound = createOutbound({ allowLoopback: true, mapLocalhost: true });
    closing.push(outbound.close);
    const { checkGitUrl } = outbound;
    const input = { name: "remote", url: `${server.url}/agents.git`, credential: new Secret("bot:tok") };
    const { repositoryId } = unwrap(await registerRepository({ ...management, checkGitUrl }, principal, input));
    const deps = {
      db: database.as("worker"),
      git: createGitSource({ cacheDir, checkGitUrl }),
      secretKeys,
      parseScript,
    };
    expect(unwrap(await syncRepository(deps, { orgId, repositoryId })).outcome).toBe("switched");

    const other = await givenGitServer({ root: remote.root });
    closing.push(other.close);
    await database.inspect("UPDATE repository SET url = $2 WHERE id = $1", [repositoryId, `${other.url}/agents.git`]);
    expect(codeOf(await syncRepository(deps, { orgId, repositoryId }))).toBe("credential_origin");
    expect(other.requests).toEqual([]);
    const stored = await database.inspect("SELECT sealed FROM secret WHERE org_id = $1", [orgId]);
    expect(JSON.stringify(stored)).not.toContain('tok"');
  });
});

describe("repositories", () => {
  test("are registered, listed, asked to be synced, and removed when nothing needs them", async () => {
    const { orgId, principal, management, resolver, repository } = await given();
    const desk = await repository("desk", { directory: "./agents/", syncEverySeconds: 60 });
    await repository("archive");
    await desk.push({ "agents/A.md": exposed(), "elsewhere/B.md": exposed() });
    const { repositories } = unwrap(await listRepositories(management, principal));
    expect(repositories).toMatchObject([
      { name: "archive", state: "never", agents: 0 },
      { name: "desk", state: "ok", agents: 1, directory: "agents", hasCredential: false },
    ]);
    const page = unwrap(await listRepositories(management, principal, { first: 1 }));
    expect(page.endCursor).toBe("archive");
    expect(
      unwrap(await listRepositories(management, principal, { first: 1, after: "archive" })).repositories[0]?.name,
    ).toBe("desk");
    expect(unwrap(await listAgents(management, principal)).agents.map(({ name }) => name)).toEqual(["A"]);

    const dueIds = async () =>
      (await listDueRepositories({ db: database.as("worker") }, { limit: 1_000 })).map(
        ({ repositoryId }) => repositoryId,
      );
    expect(await dueIds()).not.toContain(desk.repositoryId);
    const { since } = unwrap(await requestSync(management, principal, "desk"));
    expect(await dueIds()).toContain(desk.repositoryId);
    await desk.sync();
    expect(await dueIds()).not.toContain(desk.repositoryId);
    const view = unwrap(await getRepository(management, principal, "desk"));
    expect(view.attemptedAt?.getTime()).toBeGreaterThan(since.getTime());

    await database.inspect(
      `INSERT INTO run (org_id, id, root_task_id, context_id, principal, agent, repository_id, commit, state)
       VALUES ($1, 'run_1', 'task_1', 'ctx_1', 'key:1', 'A', $2, 'c', 'working')`,
      [orgId, desk.repositoryId],
    );
    expect(codeOf(await removeRepository(management, principal, "desk"))).toBe("repository_in_use");
    await database.inspect("UPDATE run SET finished_at = now(), state = 'completed' WHERE org_id = $1", [orgId]);
    const known = resolver();
    unwrap(await known.resolveExposed({ orgId, name: "A" }));
    expect(codeOf(await removeRepository(management, principal, "desk"))).toBe("ok");
    known.invalidate(orgId);
    expect(codeOf(await known.resolveExposed({ orgId, name: "A" }))).toBe("agent_not_found");
    expect(codeOf(await desk.sync())).toBe("repository_not_found_here");
  });

  test("are refused without the permission, with a bad address, or under a name that is taken", async () => {
    const { orgId, principal, management, repository } = await given();
    await repository("desk");
    const outbound = createOutbound({ allowLoopback: false, mapLocalhost: false });
    closing.push(outbound.close);
    const deps = { ...management, checkGitUrl: outbound.checkGitUrl };
    const register = (input: Partial<RegisterRepositoryInput>, can = true) =>
      registerRepository(
        deps,
        { ...principal, can: () => can },
        { name: "new", url: "https://93.184.216.34/x.git", ...input },
      );
    expect(codeOf(await register({}, false))).toBe("forbidden");
    expect(codeOf(await register({ name: "desk" }))).toBe("repository_exists");
    expect(codeOf(await register({ name: "two words" }))).toBe("invalid_input");
    expect(codeOf(await register({ url: "file:///etc" }))).toBe("outbound_refused");
    expect(codeOf(await register({ url: "http://127.0.0.1/x.git" }))).toBe("outbound_refused");
    expect(codeOf(await register({ branch: "--upload-pack=x" }))).toBe("branch_invalid");
    expect(codeOf(await register({ directory: "../x" }))).toBe("directory_invalid");
    expect(codeOf(await register({ credential: new Secret("a\r\nX-Evil: 1") }))).toBe("invalid_input");
    const left = await database.inspect("SELECT 1 FROM secret WHERE org_id = $1", [orgId]);
    expect(left).toEqual([]);
  });

  test("of another organization do not exist", async () => {
    const [one, two] = [await given(), await given()];
    const { push, repositoryId, sync } = await one.repository("desk");
    const { commit } = await push({ "A.md": exposed() });
    await sync();
    expect(codeOf(await getRepository(two.management, two.principal, repositoryId))).toBe("repository_not_found_here");
    expect(codeOf(await removeRepository(two.management, two.principal, repositoryId))).toBe(
      "repository_not_found_here",
    );
    const shared = one.resolver();
    expect(codeOf(await shared.resolveExposed({ orgId: one.orgId, name: "A" }))).toBe("ok");
    expect(codeOf(await shared.resolveExposed({ orgId: two.orgId, name: "A" }))).toBe("agent_not_found");
    expect(codeOf(await shared.resolvePinned({ orgId: one.orgId, repositoryId, commit, path: "A" }))).toBe("ok");
    expect(codeOf(await shared.resolvePinned({ orgId: two.orgId, repositoryId, commit, path: "A" }))).toBe(
      "agent_not_found",
    );
  });
});
