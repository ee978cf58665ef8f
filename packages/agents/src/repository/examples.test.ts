import { fileURLToPath } from "node:url";

import { unwrap, type Json } from "@shaman/kernel";
import { parseScript, type Asked } from "@shaman/scripts";
import { describe, expect, test } from "vitest";

import type { AgentDefinition } from "../definition/agent-definition.ts";
import { validateFolder } from "./validate-folder.ts";

const load = async (example: string) => {
  const folder = fileURLToPath(new URL(`../../../../examples/${example}`, import.meta.url));
  return unwrap(await validateFolder({ parseScript }, folder));
};

const EXAMPLES = ["order-desk", "tax-office"];

describe("the examples", () => {
  test.each(EXAMPLES)("in %s are valid, have a default, and hold exposed and private agents", async (example) => {
    const report = await load(example);
    expect(report.problems).toEqual([]);
    expect(report.agents.some(({ exposed }) => exposed)).toBe(true);
    expect(report.agents.some(({ exposed }) => !exposed)).toBe(true);
    expect(report.defaultAgent).toBeDefined();
  });

  test("begin with Acme's ProcessOrder: the first exposed agent, and the default", async () => {
    const { agents, defaultAgent } = await load("order-desk");
    const exposed = agents.filter((agent) => agent.exposed).map(({ name }) => name);
    expect([exposed.toSorted()[0], defaultAgent]).toEqual(["ProcessOrder", "ProcessOrder"]);
  });
});

type Exchange = {
  readonly texts: readonly string[];
  readonly calls: readonly { readonly name: string; readonly input: Json }[];
};

/** What the shop's tools and the agents that may be called are named to the model. */
const OTHER_TOOLS = ["shop__check_stock", "shop__charge_card", "call_agent"];

/** Plays an agent's script with a caller who gives these answers, and tools that work. */
const converse = (definition: AgentDefinition, prompt: string, answers: readonly string[]): Exchange => {
  const { script, tools } = definition;
  const parsed = parseScript(script?.text ?? "", script?.file ?? "");
  if (!parsed.ok) throw new Error("the script is broken");
  const texts: string[] = [];
  const calls: { name: string; input: Json }[] = [];
  const left = [...answers];
  let toolResults: Asked["toolResults"] = [];
  for (let turn = 1; turn <= (definition.limits.maxSteps ?? 30); turn += 1) {
    const captures = new Map<string, string>();
    const asked: Asked = { prompt, messageId: "m", turn, toolResults };
    const found = parsed.value.turns.find((candidate) => {
      captures.clear();
      return candidate.matches(asked, captures);
    });
    if (found === undefined) throw new Error(`no turn answers ${JSON.stringify(asked)}`);
    captures.set("prompt", prompt);
    texts.push(found.chunks.map(({ text }) => text(captures)).join(""));
    if (found.toolCalls.length === 0) return { texts, calls };
    toolResults = found.toolCalls.map((call) => {
      calls.push({ name: call.name, input: call.input(captures) });
      expect([...tools, ...(definition.calls.length > 0 ? OTHER_TOOLS : [])]).toContain(call.name);
      const output = call.name === "request_input" ? `The caller answered: ${left.shift() ?? "?"}` : "Handed over.";
      return { toolName: call.name, output, isError: false };
    });
  }
  throw new Error("the conversation does not end");
};

const WELCOME = "Please handle order A-1001: check the stock and tell me what happens next.";

describe("an example agent", () => {
  const cases: readonly (readonly [string, string, string, readonly string[], RegExp, readonly string[]])[] = [
    [
      "order-desk",
      "ProcessOrder",
      WELCOME,
      [],
      /^Order A-1001 is confirmed\. Everything is in stock/,
      ["shop__check_stock", "call_agent", "call_agent", "call_agent", "write_artifact"],
    ],
    [
      "order-desk",
      "ProcessOrder",
      "Process order B-2001.",
      [],
      /confirmed in two parts/,
      ["shop__check_stock", "call_agent", "call_agent", "call_agent", "write_artifact"],
    ],
    [
      "order-desk",
      "ProcessOrder",
      "Process order C-3001.",
      [],
      /is paid and confirmed/,
      ["shop__check_stock", "call_agent", "call_agent", "call_agent", "shop__charge_card", "write_artifact"],
    ],
    ["order-desk", "ProcessOrder", "hello", [], /when you name it/, []],
    ["order-desk", "TrackOrder", "Where is order A-1001?", [], /due today between/, []],
    ["order-desk", "TrackOrder", WELCOME, [], /Looking for order A-1001/, []],
    [
      "order-desk",
      "ReturnOrder",
      "I want to return order A-1001.",
      ["It arrived damaged"],
      /Your return of order A-1001 is open/,
      ["request_input", "write_artifact"],
    ],
    ["order-desk", "ReturnOrder", "Return A-1001", ["It leaks since I used it"], /goes to repair/, ["request_input"]],
    ["tax-office", "CalculateTax", "What is the VAT on 1000 EUR?", [], /190\.00 EUR/, ["write_artifact"]],
    ["tax-office", "CalculateTax", "VAT on 250 EUR for books", [], /17\.50 EUR/, ["write_artifact"]],
    [
      "tax-office",
      "TaxDeadlines",
      "Which deadlines does a small company have in spring?",
      [],
      /Most often forgotten/,
      [],
    ],
    ["tax-office", "TaxDeadlines", "Can I have more time?", [], /extension/, []],
    [
      "tax-office",
      "FileReturn",
      "Prepare my VAT return for March.",
      ["no idea", "12/345/67890", "12500 EUR"],
      /draft is ready/,
      ["request_input", "request_input", "request_input", "write_artifact"],
    ],
  ];
  test.each(cases)("%s %s answers %j", async (example, name, prompt, answers, last, tools) => {
    const { agents } = await load(example);
    const agent = agents.find((candidate) => candidate.name === name);
    if (agent === undefined) throw new Error(`no agent ${name}`);
    const { texts, calls } = converse(agent, prompt, answers);
    expect(texts.at(-1)).toMatch(last);
    expect(calls.map((call) => call.name)).toEqual(tools);
    expect(JSON.stringify(calls)).not.toContain("{{");
  });

  test("quotes what the caller said in the artifact it writes", async () => {
    const { agents } = await load("tax-office");
    const agent = agents.find((candidate) => candidate.name === "FileReturn");
    if (agent === undefined) throw new Error("no FileReturn");
    const { calls } = converse(agent, "Prepare my VAT return for March.", ["12/345/67890", "about 12.500,00 EUR"]);
    expect(calls.at(-1)?.input).toMatchObject({ content: { period: "March", netSales: "12.500,00 EUR" } });
  });
});
