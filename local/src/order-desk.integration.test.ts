import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { findBrokenPromises, freePort, startShaman, type Shaman, type TestOrg } from "@shaman/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startExampleTools, type ExampleTools } from "./example-tools.ts";
import { seedConnections } from "./seed-connections.ts";

const EXAMPLES = fileURLToPath(new URL("../../examples/", import.meta.url));

const filesOf = (example: string): Record<string, string> =>
  Object.fromEntries(
    readdirSync(join(EXAMPLES, example), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map(({ parentPath, name }) => {
        const path = join(parentPath, name);
        return [path.slice(join(EXAMPLES, example).length + 1), readFileSync(path, "utf8")];
      }),
  );

let shaman: Shaman;
let acme: TestOrg;
let techcorp: TestOrg;
let tools: ExampleTools;
beforeAll(async () => {
  shaman = await startShaman();
  tools = await startExampleTools(await freePort());
  acme = await shaman.givenOrg(filesOf("order-desk"));
  techcorp = await shaman.givenOrg(filesOf("tax-office"));
  await seedConnections({
    db: shaman.database.as("web"),
    secretKeys: shaman.secretKeys,
    orgId: acme.orgId,
    toolsUrl: tools.url,
    partner: { cardUrl: `http://${techcorp.host}/.well-known/agent-card.json`, apiKey: techcorp.apiKey },
  });
});
afterAll(async () => {
  await shaman.close();
  await tools.close();
});

const send = async (message: Readonly<Record<string, unknown>>) => {
  const params = { message: { role: "ROLE_USER", ...message } };
  const answer = await shaman.rpc(acme, { agent: "ProcessOrder", method: "SendMessage", params });
  return answer.json.result?.task;
};

const order = (messageId: string) => send({ messageId, parts: [{ text: "Please handle order C-3001." }] });

/** Decides about what the task waits for. */
const decide = (asked: Awaited<ReturnType<typeof send>>, decision: Readonly<Record<string, string>>) => {
  const { id } = asked.status.message.parts[1].data.approval;
  const data = { approval: { id, ...decision } };
  return send({ messageId: `about-${id}`, taskId: asked.id, contextId: asked.contextId, parts: [{ data }] });
};

/** What became of the tools and calls of the run, in the order of its root's steps. */
const stepsOf = async (taskId: string): Promise<readonly string[]> => {
  const rows = await shaman.database.inspect<{ name: string; state: string }>(
    "SELECT name, state FROM step WHERE task_id = $1 AND kind IN ('tool', 'call') ORDER BY position",
    [taskId],
  );
  return rows.map(({ name, state }) => `${name} ${state}`);
};

const ASKED_FIRST = ["shop__check_stock done", "InventoryChecker done", "FraudDetector done", "TaxOffice done"];

test("a card payment waits for a person with its arguments, and approved it ends with the invoice", async () => {
  const asked = await order("paid");
  expect(asked.status.state).toBe("TASK_STATE_INPUT_REQUIRED");
  expect(asked.status.message.parts[1].data.approval).toMatchObject({
    agent: "ProcessOrder",
    tool: "shop__charge_card",
    server: "shop",
    arguments: { order: "C-3001", amountEur: 1190 },
  });
  expect(await stepsOf(asked.id)).toEqual(ASKED_FIRST);

  const task = await decide(asked, { decision: "approve" });
  expect(task.status.state).toBe("TASK_STATE_COMPLETED");
  expect(await stepsOf(asked.id)).toEqual([...ASKED_FIRST, "shop__charge_card done", "write_artifact done"]);
  expect(task.artifacts).toContainEqual(
    expect.objectContaining({
      name: "invoice-C-3001.md",
      parts: [expect.objectContaining({ text: expect.stringContaining("total 1,190.00 EUR") })],
    }),
  );
  expect(task.artifacts.at(-1).parts[0].text).toContain("Order C-3001 is paid and confirmed.");
  expect(await findBrokenPromises(shaman.database, acme.orgId)).toEqual([]);
});

test("a refused card payment is not made, and the caller is told so without an invoice", async () => {
  const asked = await order("refused");
  const task = await decide(asked, { decision: "refuse", reason: "The card is under suspicion." });
  expect(task.status.state).toBe("TASK_STATE_COMPLETED");
  expect(await stepsOf(asked.id)).toEqual([...ASKED_FIRST, "shop__charge_card failed"]);
  expect(new Set(task.artifacts.map(({ name }: { name?: string }) => name))).toEqual(new Set(["response"]));
  expect(task.artifacts.at(-1).parts[0].text).toContain("The card for order C-3001 was not charged");
  const [charge] = await shaman.database.inspect<{ text: string }>(
    "SELECT output->>'text' AS text FROM step WHERE task_id = $1 AND kind = 'tool' AND name = 'shop__charge_card'",
    [asked.id],
  );
  expect(charge?.text).toContain("The card is under suspicion.");
  expect(await findBrokenPromises(shaman.database, acme.orgId)).toEqual([]);
});
