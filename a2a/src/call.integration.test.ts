import { startShaman, type Shaman, type TestOrg } from "@shaman/testkit";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const AGENTS = {
  "Greeter.md":
    "---\nname: Greeter\ndescription: Greets whoever writes\nexposed: true\nmodel: scripted/greeter.yaml\n---\nYou greet people.\n",
  "greeter.yaml": "turns:\n  - text: ['Hello, ', '{{prompt}}', '!']\n",
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
});
