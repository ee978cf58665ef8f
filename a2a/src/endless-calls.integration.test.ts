import { Secret, type JsonObject } from "@shaman/kernel";
import { findBrokenPromises, startShaman, textMessage, type Shaman, type TestOrg } from "@shaman/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";

/** An agent that calls another from outside in every turn, as long as its own limits let it. */
const endless = (name: string, callee: string): Record<string, string> => ({
  [`${name}.md`]: `---\nname: ${name}\ndescription: Calls\nexposed: true\nmodel: scripted/${name}.yaml\ncalls: [${callee}]\nlimits: {maxSteps: 2, maxDepth: 3}\n---\nYou call.\n`,
  [`${name}.yaml`]: JSON.stringify({
    turns: [{ text: "Again.", toolCalls: [{ name: "call_agent", input: { agent: callee, message: "again" } }] }],
  }),
});

let shaman: Shaman;
let acme: TestOrg;
let techcorp: TestOrg;

const introduce = (org: TestOrg, name: string, to: { readonly org: TestOrg; readonly agent: string }) =>
  org.addOutsideAgent({
    name,
    url: `http://${to.org.host}/a2a/v1/agents/${to.agent}`,
    credential: { kind: "bearer", token: new Secret(to.org.apiKey) },
  });

beforeAll(async () => {
  shaman = await startShaman();
  acme = await shaman.givenOrg({ ...endless("Ping", "Theirs"), ...endless("Narcissus", "Mirror") });
  techcorp = await shaman.givenOrg(endless("Pong", "Theirs"));
  await introduce(acme, "Theirs", { org: techcorp, agent: "Pong" });
  await introduce(techcorp, "Theirs", { org: acme, agent: "Ping" });
  await introduce(acme, "Mirror", { org: acme, agent: "Narcissus" });
});
afterAll(() => shaman.close());

const send = async (agent: string): Promise<JsonObject> =>
  (await shaman.rpc(acme, { agent, method: "SendMessage", params: textMessage("go") })).json.result.task;

test.each([
  ["two organizations that call each other", "Ping", ["Ping", "Pong"]],
  ["one, registered as its own partner, that calls itself", "Narcissus", ["Narcissus"]],
])("%s from outside go as deep as the first one may, and all of it ends", async (_, first, agents) => {
  const task = await send(first);
  expect(task.status).toMatchObject({
    state: "TASK_STATE_FAILED",
    message: { parts: [{ text: expect.stringContaining("its limit maxSteps") }] },
  });
  const runs = await shaman.database.inspect(
    `SELECT limits->>'maxDepth' AS "mayGo", state, lease_until AS lease, count(*)::integer AS runs FROM run
     WHERE agent = ANY($1) GROUP BY 1, 2, 3 ORDER BY 1 DESC`,
    [agents],
  );
  // Two calls a run, each as deep as is left; whoever may go no deeper makes none.
  expect(runs).toEqual(
    [1, 2, 4, 8].map((count, depth) => ({ mayGo: String(3 - depth), state: "failed", lease: null, runs: count })),
  );
  const said = await shaman.database.inspect<{ text: string }>(
    "SELECT status_message->'parts'->0->>'text' AS text FROM task WHERE agent = ANY($1) AND run_id IN (SELECT id FROM run WHERE limits->>'maxDepth' = '0')",
    [agents],
  );
  expect(new Set(said.map(({ text }) => text.includes("its limit maxDepth")))).toEqual(new Set([true]));
  for (const { orgId } of [acme, techcorp]) expect(await findBrokenPromises(shaman.database, orgId)).toEqual([]);
});
