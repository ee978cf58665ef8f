import { startShaman, type Shaman, type TestOrg } from "@shaman/testkit";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const AGENTS = {
  "Greeter.md":
    "---\nname: Greeter\ndescription: Greets whoever writes\nexposed: true\nmodel: scripted/greeter.yaml\n---\nYou greet people.\n",
  "greeter.yaml": "turns:\n  - text: ['Hello, ', '{{prompt}}', '!']\n",
  "Strict.md":
    "---\nname: Strict\ndescription: Answers in a form\nexposed: true\nmodel: scripted/strict.yaml\noutput: {type: object, required: [ok]}\n---\nYou answer in JSON.\n",
  "strict.yaml": "turns:\n  - text: '{\"ok\": true}'\n",
  "Slow.md": "---\nname: Slow\ndescription: Takes its time\nexposed: true\nmodel: scripted/slow.yaml\n---\nYou wait.\n",
  "slow.yaml": "turns:\n  - text: ['Slowly, ', {text: '{{prompt}}', delayMs: 300}]\n",
};

let shaman: Shaman;
let org: TestOrg;
beforeAll(async () => {
  shaman = await startShaman();
  org = await shaman.givenOrg(AGENTS);
});
afterAll(() => shaman.close());

const message = (text: string, id: string) => ({ message: { messageId: id, role: "ROLE_USER", parts: [{ text }] } });

describe("SendMessage", () => {
  it("waits for the agent's answer and gives it as one artifact of a completed task", async () => {
    const answer = await shaman.rpc(org, { agent: "Greeter", method: "SendMessage", params: message("Ada", "m1") });
    expect(answer.status, answer.text + shaman.processes.worker.output() + shaman.processes.internal.output()).toBe(
      200,
    );
    const { task } = answer.json.result;
    expect(task.status.state).toBe("TASK_STATE_COMPLETED");
    expect(task.artifacts).toMatchObject([{ parts: [{ text: "Hello, Ada!" }] }]);
  });

  it.each([
    ["a short answer", "Greeter", "Ada", undefined],
    ["an answer larger than what processes tell each other", "Greeter", "A".repeat(20_000), undefined],
    ["an answer in several commits", "Slow", "Ada", undefined],
    ["two artifacts", "Strict", "Ada", undefined],
    ["what rows cannot hold", "Greeter", "A\u0000\ud800", undefined],
    ["no history", "Greeter", "Ada", 0],
  ])("gives the task as GetTask does afterwards: %s", async (what, agent, text, historyLength) => {
    const configuration = historyLength === undefined ? {} : { configuration: { historyLength } };
    const params = { ...message(text, `same: ${what}`), ...configuration };
    const { task } = (await shaman.rpc(org, { agent, method: "SendMessage", params })).json.result;
    const asked = { id: task.id, ...(historyLength !== undefined && { historyLength }) };
    expect(task.status.state).toBe("TASK_STATE_COMPLETED");
    expect((await shaman.rpc(org, { agent, method: "GetTask", params: asked })).json.result).toEqual(task);
  });

  it("tells its message as it is kept, also where it does not wait", async () => {
    const params = { ...message("A\u0000\ud800", "kept"), configuration: { returnImmediately: true } };
    const { task } = (await shaman.rpc(org, { agent: "Greeter", method: "SendMessage", params })).json.result;
    const seen = (await shaman.rpc(org, { agent: "Greeter", method: "GetTask", params: { id: task.id } })).json.result;
    expect(task.history).toEqual(seen.history);
    expect(task.history[0].parts).toEqual([{ text: "A\ufffd\ufffd" }]);
  });
});
