import { Secret, type JsonObject } from "@shaman/kernel";
import {
  everythingServer,
  findBrokenPromises,
  givenSettings,
  publicCatalogue,
  startModelServer,
  startShaman,
  textMessage,
  type ModelAnswer,
  type ModelReply,
  type ModelServerRequest,
  type Shaman,
  type TestOrg,
  type Wire,
} from "@shaman/testkit";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";

/**
 * The order desk as a partner meets it: called over HTTP, with models in the wire formats of OpenAI (`oai`) and Anthropic
 * (`claude`), and the public MCP servers as its tools, in the sandbox and over streamable HTTP.
 */

type Call = { readonly name: string; readonly input: JsonObject };
type Turn = { readonly text?: readonly string[]; readonly calls?: readonly Call[] };

const ask = (agent: string, message: string): Call => ({ name: "call_agent", input: { agent, message } });
const write = (name: string, content: string): Call => ({ name: "write_artifact", input: { name, content } });

/** What the model of each agent answers, turn by turn. */
const TURNS: Readonly<Record<string, readonly Turn[]>> = {
  ProcessOrder: [
    {
      text: ["Looking ", "into it."],
      calls: [
        { name: "shop__get-sum", input: { a: 19, b: 23 } },
        { name: "files__write_file", input: { path: "/scratch/order.txt", content: "order 42" } },
        { name: "memory__read_graph", input: {} },
        { name: "desk__echo", input: { message: "good morning" } },
      ],
    },
    {
      calls: [
        { name: "files__read_text_file", input: { path: "/scratch/order.txt" } },
        ask("InventoryChecker", "order 42"),
        ask("FraudDetector", "order 42"),
        ask("TaxOffice", "order 42"),
      ],
    },
    {
      calls: [
        {
          name: "memory__create_entities",
          input: { entities: [{ name: "charge", entityType: "payment", observations: ["119 EUR"] }] },
        },
      ],
    },
    { calls: [write("invoice.md", "119 EUR")] },
    { text: ["Order 42 ", "is paid."] },
  ],
  InventoryChecker: [
    {
      text: ["I ", "ask."],
      calls: [
        { name: "shop__get-structured-content", input: { location: "Chicago" } },
        { name: "shop__echo", input: { message: "in stock" } },
      ],
    },
    { text: ["3 in ", "stock"] },
  ],
  FraudDetector: [
    { calls: [{ name: "memory__search_nodes", input: { query: "fraud" } }] },
    { text: ["Nothing ", "is known."] },
  ],
  ...Object.fromEntries(
    [
      ["DeskO", "HelpA"],
      ["DeskA", "HelpO"],
    ].flatMap(([desk = "", help = ""]) => [
      [
        desk,
        [
          { text: ["I ", "begin."], calls: [write("one.txt", "one"), write("two.txt", "two")] },
          { text: ["I ask ", "for help."], calls: [ask(help, "help me"), write("three.txt", "three")] },
          { text: ["All ", "done."] },
        ],
      ],
      [
        help,
        [
          { text: ["I ", "help."], calls: [write("four.txt", "four"), write("five.txt", "five")] },
          { text: ["Helped."] },
        ],
      ],
    ]),
  ),
};

/** What goes wrong with an answer of two texts and two calls, and how that comes over each wire. */
const FAULTS: Readonly<Record<string, (answer: ModelAnswer, wire: Wire) => ModelReply>> = {
  "429": () => ({ status: 429, headers: { "retry-after": "1" } }),
  "500": () => ({ status: 500 }),
  "529": () => ({ status: 529 }),
  "an answer that is no stream": () => ({
    status: 200,
    headers: { "content-type": "text/html" },
    body: "<p>Hello</p>",
  }),
  "a stream that is no JSON": () => ({
    status: 200,
    headers: { "content-type": "text/event-stream" },
    body: 'event: message_start\ndata: {"type": "message_start", \n\n',
  }),
  "a cut in the middle of its text": (answer, wire) => ({
    ...answer,
    ending: "cut",
    pieces: wire === "openai" ? 2 : 4,
  }),
  "a cut in the middle of a call's arguments": (answer, wire) => ({
    ...answer,
    ending: "cut",
    pieces: wire === "openai" ? 6 : 8,
  }),
  "an end before its end": (answer) => ({ ...answer, ending: "end" }),
  "an error in its stream": (answer) => ({ ...answer, ending: "error" }),
};

const agentOf = ({ body }: ModelServerRequest): string => /You are (\w+)\./.exec(JSON.stringify(body))?.[1] ?? "";

const turnOf = ({ body }: ModelServerRequest): number =>
  Object(body).messages.filter((message: { readonly role: string }) => message.role === "assistant").length + 1;

/** Which fault happens in whose answer, once: as the caller says it, and as it is passed on to called agents. */
const FAULT = /fault-(\d+) at (\w+)/;

/** The turn with two texts and two calls. */
const FAULTY_TURN: Readonly<Record<string, number>> = { Desk: 2, Help: 1 };

const usage = { inputTokens: 1_000, outputTokens: 100, cachedInputTokens: 10 };
const MODEL = "test-model";
const prices = { input: 10, cached: 0, output: 100 };

let shaman: Shaman;
let acme: TestOrg;
const closing: (() => Promise<void>)[] = [];
const asked = new Map<string, number>();

const answerAs =
  (wire: Wire) =>
  (request: ModelServerRequest): ModelReply => {
    const [agent, turn] = [agentOf(request), turnOf(request)];
    const { text, calls = [] } = TURNS[agent]?.[turn - 1] ?? {};
    const [marker = "", number = "", place] = FAULT.exec(JSON.stringify(request.body)) ?? [];
    const key = `${agent} ${turn} ${marker}`;
    const times = (asked.get(key) ?? 0) + 1;
    asked.set(key, times);
    const toolCalls = calls.map(({ name, input }, i) => {
      const message = typeof input.message === "string" && name === "call_agent" ? `${input.message} ${marker}` : "";
      return { id: `call_${turn}_${i}`, name, input: { ...input, ...(message !== "" && { message }) } };
    });
    const answer = { model: MODEL, usage, ...(text !== undefined && { text }), toolCalls };
    const isFaulty = place === agent && times === 1 && turn === FAULTY_TURN[agent.slice(0, 4)];
    return (isFaulty ? Object.values(FAULTS)[Number(number)]?.(answer, wire) : undefined) ?? answer;
  };

const startModels = async (org: TestOrg, provider: string, kind: Wire): Promise<void> => {
  const models = await startModelServer({ wire: kind, replies: answerAs(kind) });
  closing.push(models.close);
  await org.setModel({ provider, kind, baseUrl: models.baseUrl, key: new Secret(`key-of-${provider}`) });
};

const agentFile = (name: string, model: string, frontMatter: string): Record<string, string> => ({
  [`${name}.md`]: `---\nname: ${name}\ndescription: The ${name}\nmodel: ${model}/${MODEL}\n${frontMatter}\n---\nYou are ${name}.\n`,
});

beforeAll(async () => {
  const catalogue = await publicCatalogue();
  const everything = await everythingServer();
  closing.push(catalogue.close, everything.close);
  // Nobody dies here, and a slow machine should not look like it.
  shaman = await startShaman({ env: { ...catalogue.env, LEASE_MS: "30000", LEASE_RENEW_MS: "1000" } });
  const techcorp = await shaman.givenOrg({
    "Tax.md": "---\nname: Tax\ndescription: Taxes\nexposed: true\nmodel: scripted/Tax.yaml\n---\nYou tax.\n",
    "Tax.yaml": JSON.stringify({ turns: [{ text: "Tax is 19 EUR." }] }),
  });
  const shop = `shop: {url: "${everything.url}", tools: [get-sum, echo, get-structured-content]}`;
  const memory = "memory: {catalogue: memory}";
  const retry = "tools: [write_artifact]\nretry: {maxAttempts: 3, backoffSeconds: 0.1}";
  acme = await shaman.givenOrg({
    ...agentFile(
      "ProcessOrder",
      "oai",
      `exposed: true
tools: [write_artifact]
calls: [TaxOffice]
approval: [create_entities]
mcpServers:
  ${shop}
  desk: {catalogue: everything, tools: [echo]}
  files: {catalogue: files}
  ${memory}`,
    ),
    ...agentFile("InventoryChecker", "claude", `mcpServers:\n  ${shop}`),
    ...agentFile("FraudDetector", "oai", `mcpServers:\n  ${memory}`),
    ...agentFile("DeskO", "oai", `exposed: true\n${retry}`),
    ...agentFile("HelpA", "claude", retry),
    ...agentFile("DeskA", "claude", `exposed: true\n${retry}`),
    ...agentFile("HelpO", "oai", retry),
  });
  await givenSettings(shaman, acme, { prices: { [`oai/${MODEL}`]: prices, [`claude/${MODEL}`]: prices } });
  await startModels(acme, "oai", "openai");
  await startModels(acme, "claude", "anthropic");
  await acme.addOutsideAgent({
    name: "TaxOffice",
    url: `http://${techcorp.host}/a2a/v1/agents/Tax/`,
    credential: { kind: "bearer", token: new Secret(techcorp.apiKey) },
  });
});
afterAll(async () => {
  await shaman.close();
  for (const close of closing) await close();
});
afterEach(async () => {
  expect(await findBrokenPromises(shaman.database, acme.orgId)).toEqual([]);
});

const send = async (agent: string, params: JsonObject) =>
  (await shaman.rpc(acme, { agent, method: "SendMessage", params })).json.result.task;

type Step = { readonly agent: string; readonly step: string; readonly text: string };

/** All steps of the run as `agent: kind name state`, each agent's in its order; and what tools and calls gave. */
const stepsOf = (taskId: string): Promise<readonly Step[]> =>
  shaman.database.inspect<Step>(
    `SELECT t.agent, s.kind || ' ' || s.name || ' ' || s.state AS step, coalesce(s.output->>'text', '') AS text
     FROM step s JOIN task t ON t.id = s.task_id WHERE s.run_id = (SELECT run_id FROM task WHERE id = $1)
     ORDER BY t.agent, s.position`,
    [taskId],
  );

const linesOf = (steps: readonly Step[], agent: string): readonly string[] =>
  steps.filter((one) => one.agent === agent).map(({ step }) => step);

/** What the run was counted to use, and what its usage adds up to. */
const usageOf = async (taskId: string) => {
  const [run] = await shaman.database.inspect(
    `SELECT r.input_tokens::integer AS "inputTokens", r.output_tokens::integer AS "outputTokens", r.cost_usd::float AS cost,
       (SELECT count(*)::integer FROM usage u WHERE u.run_id = r.id) AS calls,
       (SELECT sum(cached_input_tokens)::integer FROM usage u WHERE u.run_id = r.id) AS cached
     FROM run r WHERE root_task_id = $1`,
    [taskId],
  );
  return run;
};

const textsOf = (task: {
  readonly artifacts: readonly { readonly name: string; readonly parts: readonly { text: string }[] }[];
}) => task.artifacts.map(({ name, parts }) => `${name}: ${parts.map(({ text }) => text).join("")}`);

test("an order goes through all its tools, agents and the partner's once, waits for a person, and is counted to the token", async () => {
  const waiting = await send("ProcessOrder", textMessage("Please handle order 42."));
  expect(waiting.status.state).toBe("TASK_STATE_INPUT_REQUIRED");
  const { approval } = waiting.status.message.parts[1].data;
  expect(approval).toMatchObject({ tool: "memory__create_entities", server: "memory" });
  const { id: taskId, contextId } = waiting;
  const parts = [{ data: { approval: { id: approval.id, decision: "approve" } } }];
  const task = await send("ProcessOrder", textMessage("", { taskId, contextId, parts }));
  expect(task.status.state).toBe("TASK_STATE_COMPLETED");
  expect(textsOf(task)).toEqual(["response: Looking into it.", "invoice.md: 119 EUR", "response: Order 42 is paid."]);

  const steps = await stepsOf(taskId);
  const oai = `model oai/${MODEL} done`;
  expect(linesOf(steps, "ProcessOrder")).toEqual([
    oai,
    "tool shop__get-sum done",
    "tool files__write_file done",
    "tool memory__read_graph done",
    "tool desk__echo done",
    oai,
    "tool files__read_text_file done",
    "call InventoryChecker done",
    "call FraudDetector done",
    "call TaxOffice done",
    oai,
    "approval memory__create_entities done",
    "tool memory__create_entities done",
    oai,
    "tool write_artifact done",
    oai,
  ]);
  const claude = `model claude/${MODEL} done`;
  expect(linesOf(steps, "InventoryChecker")).toEqual([
    claude,
    "tool shop__get-structured-content done",
    "tool shop__echo done",
    claude,
  ]);
  expect(linesOf(steps, "FraudDetector")).toEqual([oai, "tool memory__search_nodes done", oai]);
  const gave = steps.map(({ text }) => text).join("\n");
  for (const text of [
    "The sum of 19 and 23 is 42.",
    "Echo: good morning",
    "order 42",
    "3 in stock",
    "Nothing is known.",
  ]) {
    expect(gave).toContain(text);
  }
  expect(gave).toContain("Tax is 19 EUR.");
  expect(gave).toContain("119 EUR");
  const modelCalls = TURNS.ProcessOrder?.concat(TURNS.InventoryChecker ?? [], TURNS.FraudDetector ?? []).length ?? 0;
  expect([...asked].filter(([key]) => !/^(?:Desk|Help)/.test(key)).map(([, times]) => times)).toEqual(
    Array.from({ length: modelCalls }, () => 1),
  );
  expect(await usageOf(taskId)).toEqual({
    inputTokens: modelCalls * usage.inputTokens,
    outputTokens: modelCalls * usage.outputTokens,
    cached: modelCalls * usage.cachedInputTokens,
    calls: modelCalls,
    cost: expect.closeTo((modelCalls * ((1_000 - 10) * 10 + 100 * 100)) / 1_000_000, 6),
  });
});

const PLACES = [
  { place: "DeskO", desk: "DeskO", help: "HelpA", outer: "oai", inner: "claude" },
  { place: "HelpA", desk: "DeskO", help: "HelpA", outer: "oai", inner: "claude" },
  { place: "DeskA", desk: "DeskA", help: "HelpO", outer: "claude", inner: "oai" },
  { place: "HelpO", desk: "DeskA", help: "HelpO", outer: "claude", inner: "oai" },
] as const;

test.each(Object.keys(FAULTS).map((fault, number) => [fault, number] as const))(
  "where a provider answers a caller's or a called agent's turn with %s, the run goes on and nothing is done or left twice",
  async (_, number) => {
    const runs = PLACES.map(async ({ place, desk, help, outer, inner }) => {
      const marker = `fault-${number} at ${place}`;
      const task = await send(desk, textMessage(`Go on. ${marker}`));
      expect(task.status, place).toMatchObject({ state: "TASK_STATE_COMPLETED" });
      expect(textsOf(task).toSorted(), place).toEqual([
        "one.txt: one",
        "response: All done.",
        "response: I ask for help.",
        "response: I begin.",
        "three.txt: three",
        "two.txt: two",
      ]);
      const steps = await stepsOf(task.id);
      const [calling, helping] = [`model ${outer}/${MODEL} done`, `model ${inner}/${MODEL} done`];
      const wrote = "tool write_artifact done";
      expect(linesOf(steps, desk), place).toEqual([
        calling,
        wrote,
        wrote,
        calling,
        `call ${help} done`,
        wrote,
        calling,
      ]);
      expect(linesOf(steps, help), place).toEqual([helping, wrote, wrote, helping]);
      const times = (agent: string, turns: readonly number[]) =>
        turns.map((turn) => asked.get(`${agent} ${turn} ${marker}`));
      expect(times(desk, [1, 2, 3]), place).toEqual([1, place === desk ? 2 : 1, 1]);
      expect(times(help, [1, 2]), place).toEqual([place === help ? 2 : 1, 1]);
    });
    await Promise.all(runs);
  },
);
