import { startShaman, textMessage, whenRow, type Shaman } from "@shaman/testkit";
import { afterAll, beforeAll, expect, it } from "vitest";

const AGENTS = {
  "Slow.md":
    "---\nname: Slow\ndescription: Answers slowly\nexposed: true\nmodel: scripted/slow.yaml\n---\nYou are slow.\n",
  "slow.yaml": "turns:\n  - text:\n      - { text: 'slow ', delayMs: 500 }\n      - { text: 'answer', delayMs: 500 }\n",
};

let shaman: Shaman;
beforeAll(async () => {
  shaman = await startShaman({ env: { SHUTDOWN_GRACE_MS: "60000" } });
});
afterAll(() => shaman.close());

it("answers the calls that are under way when the public server is told to stop, and then ends", async () => {
  const org = await shaman.givenOrg(AGENTS);
  const call = shaman.rpc(org, { agent: "Slow", method: "SendMessage", params: textMessage("please") });
  await whenRow(shaman.database, "SELECT 1 FROM run WHERE org_id = $1 AND lease_until IS NOT NULL", [org.orgId]);
  const ended = shaman.processes.public.kill("SIGTERM");
  const answer = await call;
  expect(answer.status).toBe(200);
  expect(answer.json.result.task.status.state).toBe("TASK_STATE_COMPLETED");
  expect(answer.json.result.task.artifacts[0].parts).toEqual([{ text: "slow answer" }]);
  await ended;
});
