import { err, ok } from "@shaman/kernel";
import { describe, expect, test } from "vitest";

import { renderPrompt, type AgentDefinition } from "./agent-definition.ts";
import { parseDefinition, type ParseScript } from "./parse-definition.ts";
import { formatProblem } from "./problem.ts";

const parseScript: ParseScript = (text, file) =>
  text.includes("broken") ? err([{ file, line: 3, message: "is broken" }]) : ok(text);

type Files = Readonly<Record<string, string>>;

const parse = (text: string, files: Files = {}, file = "orders/Agent.md") =>
  parseDefinition({ parseScript }, { file, text, files: new Map(Object.entries(files)) });

const problemsOf = (text: string, files: Files = {}, file = "orders/Agent.md"): readonly string[] => {
  const parsed = parse(text, files, file);
  return parsed.ok ? [] : parsed.error.map(formatProblem);
};

const definitionOf = (text: string, files: Files = {}, file = "orders/Agent.md"): AgentDefinition => {
  const parsed = parse(text, files, file);
  if (!parsed.ok) throw new Error(parsed.error.map(formatProblem).join("\n"));
  return parsed.value;
};

const agent = (frontMatter: string, body = "You help."): string =>
  `---\ndescription: Helps\n${frontMatter}---\n${body}\n`;

describe("an agent file", () => {
  test("with every key of the format becomes a definition", () => {
    const definition = definitionOf(
      `---
name: Agent
description: Handles an order
exposed: true
version: "2.1.0"
tags: [orders, desk]
model: openai/gpt-5
temperature: 0.2
skills: [{id: orders, name: Orders, description: Handles orders, tags: [a], examples: ["Order 7"]}]
tools: [write_artifact, request_input]
mcpServers:
  orders: [order_lookup, order_status]
  sonarqube: "*"
  database: {catalogue: postgres, parameters: {schema: sales}, tools: [query]}
  payment: {url: "https://pay.example.com/mcp", transport: streamable-http, tools: [charge_card]}
limits: {maxSteps: 30, maxToolCalls: 50, maxTokens: 200000, maxCostUsd: 1, timeoutSeconds: 600, maxDepth: 5}
approval: [charge_card]
repeatable: [order_lookup]
calls: [Shipping, "finance:tax/Calculator"]
deduplicate: false
memory: context
priority: 2
retry: {maxAttempts: 3, backoffSeconds: 1.5}
input: {type: object, properties: {id: {type: string, pattern: "^[A-Z]+$"}, next: {$ref: "#/properties/id"}}}
output: {type: string}
---
You process orders. Task: {{prompt}}
`,
    );
    expect(definition).toMatchObject({
      path: "orders/Agent",
      name: "Agent",
      file: "orders/Agent.md",
      exposed: true,
      version: "2.1.0",
      tools: ["write_artifact", "request_input"],
      mcpServers: {
        orders: { kind: "registered", tools: ["order_lookup", "order_status"] },
        sonarqube: { kind: "registered", tools: "*" },
        database: { kind: "catalogue", catalogue: "postgres", parameters: { schema: "sales" }, tools: ["query"] },
        payment: { kind: "inline", url: "https://pay.example.com/mcp", transport: "streamable-http" },
      },
      limits: { maxSteps: 30, maxCostUsd: 1 },
      deduplicate: false,
      memory: "context",
      priority: 2,
      retry: { maxAttempts: 3, backoffSeconds: 1.5 },
      usesPrompt: true,
    });
  });

  test.each([
    ["30s", 30],
    ["10m", 600],
    ["12h", 43_200],
    ["30d", 2_592_000],
    ["false", 0],
  ])("may let answers be used again for %s", (text, seconds) => {
    expect(definitionOf(agent(`cache: ${text}\n`)).cache).toEqual({ seconds });
  });

  test.each(["10", "0s", "31d", "-1m", "1h30m", "true", "{seconds: 5}"])("may not write `cache: %s`", (text) => {
    expect(problemsOf(agent(`cache: ${text}\n`))).toEqual([
      expect.stringMatching(/^orders\/Agent\.md:3 .*cache.*how long an answer may be used again/),
    ]);
  });

  test("needs a description only; everything else has a default that exposes and allows nothing", () => {
    const definition = definitionOf(agent(""));
    expect(definition).toEqual({
      path: "orders/Agent",
      name: "Agent",
      file: "orders/Agent.md",
      description: "Helps",
      exposed: false,
      tags: [],
      skills: [],
      tools: [],
      mcpServers: {},
      limits: {},
      approval: [],
      repeatable: [],
      calls: [],
      deduplicate: true,
      retry: {},
      template: [{ kind: "text", text: "You help.\n" }],
      usesPrompt: false,
    });
    expect(Object.values(definition)).not.toContain(undefined);
  });

  test("may be Name/prompt.md", () => {
    expect(definitionOf(agent("name: Refund\n"), {}, "billing/Refund/prompt.md").path).toBe("billing/Refund");
  });

  test("with Windows line ends and spaces after the dashes is read", () => {
    expect(definitionOf("---  \r\ndescription: Helps\r\n---\r\nHello {{prompt}}\r\n").template).toEqual([
      { kind: "text", text: "Hello " },
      { kind: "prompt" },
      { kind: "text", text: "\r\n" },
    ]);
  });

  test("is refused with the line of each wrong key, and the name its author may have meant", () => {
    expect(problemsOf(agent("exposd: true\nlimits:\n  maxStep: 3\n"))).toEqual([
      "orders/Agent.md:5 unknown key limits.maxStep. Did you mean maxSteps?",
      "orders/Agent.md:3 unknown key exposd. Did you mean exposed?",
    ]);
    expect(problemsOf(agent("exposed: yes\ntools:\n  - write_artifact\n  - write_artefact\n"))).toEqual([
      "orders/Agent.md:3 exposed: must be true or false",
      "orders/Agent.md:6 tools[1]: must be one of write_artifact, request_input, run_data_write, run_data_read. Did you mean write_artifact?",
    ]);
    expect(problemsOf("---\nexposed: true\n---\nx")).toEqual([
      "orders/Agent.md:2 description: is missing: say in a sentence what the agent does",
    ]);
    expect(problemsOf(agent("version: 2.1\n"))[0]).toMatch(/:3 version: must be a text: put it in quotes/);
    expect(problemsOf("---\njust words\n---\n")).toEqual([
      "orders/Agent.md:2 front matter must be a map of keys and values",
    ]);
  });

  test("whose name is not that of its file is refused", () => {
    expect(problemsOf(agent("name: Other\n"))).toEqual([
      'orders/Agent.md:3 name: is "Other", but an agent is called as its file: Agent',
    ]);
  });

  test.each([
    ["execute.md", /"execute" .* is reserved/],
    ["orders/Tasks/prompt.md", /"Tasks" .* is reserved/],
    ["v1/Agent.md", /"v1" .* is reserved/],
    ["extendedAgentCard.md", /is reserved/],
    ["message:send.md", /must be 1 to 64 letters/],
    ["two words.md", /must be 1 to 64 letters/],
    [`${"a".repeat(65)}.md`, /must be 1 to 64 letters/],
    ["a/b/c/d/e/f/g/h/i.md", /more than 8 segments/],
    ["prompt.md", /cannot be an agent/],
  ])("in %s has no usable name and is refused", (file, reason) => {
    expect(problemsOf(agent(""), {}, file)[0]).toMatch(reason);
  });

  test("may ask for the installation's maxima and for nothing beyond", () => {
    expect(problemsOf(agent("limits: {maxSteps: 200, maxCostUsd: 100}\n"))).toEqual([]);
    expect(problemsOf(agent("limits: {maxSteps: 201, maxCostUsd: 100.01, maxTokens: 0}\n"))).toEqual([
      "orders/Agent.md:3 limits.maxSteps: must be a whole number above 0, at most 200 on this installation",
      "orders/Agent.md:3 limits.maxTokens: must be a whole number above 0, at most 5000000 on this installation",
      "orders/Agent.md:3 limits.maxCostUsd: must be a number above 0, at most 100 on this installation",
    ]);
  });

  test("cannot start programs", () => {
    for (const key of ["command", "args", "env"]) {
      expect(problemsOf(agent(`mcpServers:\n  shell: {${key}: [x]}\n`))[0]).toMatch(
        new RegExp(`:4 mcpServers.shell: "${key}" is not accepted`),
      );
    }
    expect(problemsOf(agent('mcpServers: {a: {url: "https://user:word@example.com/"}}\n'))).toHaveLength(1);
    expect(problemsOf(agent('mcpServers: {a: {url: "file:///etc/passwd"}}\n'))).toHaveLength(1);
  });

  test("cannot ask for approval of a tool it does not have", () => {
    const tools = "mcpServers: {payment: [charge_card]}\ntools: [write_artifact]\n";
    expect(problemsOf(agent(`${tools}approval: [charge_crad]\n`))).toEqual([
      "orders/Agent.md:5 approval: the agent has no tool charge_crad. Did you mean charge_card?",
    ]);
    expect(problemsOf(agent(`${tools}approval: [charge_card, write_artifact]\n`))).toEqual([]);
    expect(problemsOf(agent('mcpServers: {payment: "*"}\napproval: [anything]\n'))).toEqual([]);
    expect(problemsOf(agent('mcpServers: {payment: ["*", resources]}\napproval: [anything]\n'))).toEqual([]);
    expect(problemsOf(agent(`${tools}approval: [payment__charge_card]\n`))).toEqual([]);
  });

  test("may hold JSON Schemas that stay within themselves and use RE2 patterns", () => {
    expect(problemsOf(agent('input: {$ref: "https://example.com/schema"}\n'))[0]).toMatch(
      /input: may refer within itself only/,
    );
    expect(problemsOf(agent('output: {pattern: "(a+)+(?=b)"}\n'))[0]).toMatch(
      /output: holds the pattern .* not RE2 syntax/,
    );
    expect(problemsOf(agent("input: [1]\n"))[0]).toMatch(/input: must be a JSON Schema/);
  });
});

describe("hostile front matter", () => {
  test.each(["---js", "---json", "--- yaml", "---;"])("that begins with %s is refused", (fence) => {
    expect(problemsOf(`${fence}\ndescription: x\n---\n`)[0]).toMatch(
      /^orders\/Agent\.md:1 front matter must begin with --- alone/,
    );
  });

  test("that is not closed, not there, or not YAML is refused with its line", () => {
    expect(problemsOf("---\ndescription: x\n")[0]).toMatch(/:1 front matter is not closed/);
    expect(problemsOf("Hello")[0]).toMatch(/:1 has no front matter/);
    expect(problemsOf("---\ndescription: x\ntags: [a\n---\n")[0]).toMatch(/:\d is not valid YAML/);
    expect(problemsOf("---\ndescription: x\ndescription: y\n---\n")[0]).toMatch(
      /:3 is not valid YAML: Map keys must be unique/,
    );
  });

  test("with an alias bomb, a tag, or bottomless nesting is refused at once", () => {
    const bomb = ["a: &a [x, x, x, x, x, x, x, x, x]"];
    for (const [from, to] of ["ab", "bc", "cd", "de", "ef", "fg", "gh", "hi"]) {
      bomb.push(`${to}: &${to} [${Array.from({ length: 9 }, () => `*${from}`).join(", ")}]`);
    }
    expect(problemsOf(`---\n${bomb.join("\n")}\n---\n`)[0]).toMatch(/cannot be read as YAML: Excessive alias count/);
    expect(problemsOf(agent("input: !!js/function 'return 1'\n"))[0]).toMatch(/:3 is not valid YAML: Unresolved tag/);
    expect(problemsOf(agent(`input: ${"[".repeat(30_000)}\n`))).not.toEqual([]);
  });

  test("with characters that cannot be stored is refused", () => {
    expect(problemsOf(agent('version: "a\\0b"\n'))[0]).toMatch(/:3 holds a character that cannot be stored/);
    expect(problemsOf(agent('version: "\\ud800"\n'))[0]).toMatch(/:3 (holds a character|is not valid)/);
    expect(problemsOf(agent('input: {"\\0": 1}\n'))[0]).toMatch(/:3 holds a character/);
  });

  test("with keys of the prototype changes nothing", () => {
    expect(problemsOf(agent("__proto__: {exposed: true}\n"))[0]).toMatch(/unknown key __proto__/);
    expect(problemsOf(agent("constructor: 1\n"))[0]).toMatch(/unknown key constructor/);
  });

  test("in a file beyond 64 kB is refused", () => {
    expect(problemsOf(agent("", "x".repeat(65_000)))).toEqual([]);
    expect(problemsOf(agent("", "x".repeat(66_000)))).toEqual([
      "orders/Agent.md:1 is larger than 64 kB, the limit of an agent file",
    ]);
  });
});

describe("the prompt", () => {
  test("is put in where {{prompt}} stands, and never expanded again", () => {
    const definition = definitionOf(agent("", "A {{prompt}} B {{ prompt }} C"), {});
    expect(renderPrompt(definition, "{{prompt}} {{> secret.md}} $&")).toBe(
      "A {{prompt}} {{> secret.md}} $& B {{prompt}} {{> secret.md}} $& C\n",
    );
  });

  test("may be absent, and the definition says so", () => {
    expect(definitionOf(agent("", "Only {{other}} braces {{}} { {prompt} }")).usesPrompt).toBe(false);
  });

  test("misspelt is refused with the right spelling", () => {
    expect(problemsOf(agent("", "Task:\n{{promt}}"))).toEqual([
      "orders/Agent.md:5 unknown marker {{promt}}. Did you mean {{prompt}}?",
    ]);
  });
});

describe("includes", () => {
  test("are relative to the file they stand in, and may hold the prompt's place", () => {
    const definition = definitionOf(agent("", "1 {{> parts/a.md}} 5"), {
      "orders/parts/a.md": "2 {{> ../b.md}} 4\n",
      "orders/b.md": "3 {{prompt}}\n",
    });
    expect(renderPrompt(definition, "hello")).toBe("1 2 3 hello 4 5\n");
    expect(definition.usesPrompt).toBe(true);
  });

  test.each(["../../secret.md", "/etc/passwd", "../../../etc/passwd", "..\\..\\x.md", "..", ""])(
    "that leave the directory are refused: %j",
    (target) => {
      expect(problemsOf(agent("", `{{> ${target}}}`))[0]).toMatch(
        /^orders\/Agent\.md:4 include .*leads out of the repository's directory/,
      );
    },
  );

  test("that loop are refused, with the way they take", () => {
    const files = { "orders/a.md": "\n{{> b.md}}", "orders/b.md": "{{> a.md}}" };
    expect(problemsOf(agent("", "{{> a.md}}"), files)).toEqual([
      "orders/b.md:1 include a.md loops: orders/a.md → orders/b.md → orders/a.md",
    ]);
    expect(problemsOf(agent("", "{{> Agent.md}}"))[0]).toMatch(/loops/);
  });

  test("may nest five deep and no deeper", () => {
    const chain = (depth: number): Files =>
      Object.fromEntries(
        Array.from({ length: depth }, (_, index) => [
          `orders/${index + 1}.md`,
          index + 1 === depth ? "end" : `{{> ${index + 2}.md}}`,
        ]),
      );
    expect(problemsOf(agent("", "{{> 1.md}}"), chain(5))).toEqual([]);
    expect(problemsOf(agent("", "{{> 1.md}}"), chain(6))).toEqual([
      "orders/5.md:1 include 6.md is nested deeper than 5 levels",
    ]);
  });

  test("that do not exist, are agents, or are too large are refused at their place", () => {
    expect(problemsOf(agent("", "{{> no.md}}"))).toEqual(["orders/Agent.md:4 include no.md does not exist"]);
    expect(problemsOf(agent("", "{{> Other.md}}"), { "orders/Other.md": agent("") })[0]).toMatch(/it is an agent/);
    expect(problemsOf(agent("", "{{> big.md}}"), { "orders/big.md": "x".repeat(256 * 1024 + 1) })[0]).toMatch(
      /larger than 256 kB/,
    );
  });

  test("that multiply are stopped by size, by pieces and by number", () => {
    const tenfold = (name: string): string => `{{> ${name}}}`.repeat(10);
    const files = {
      "orders/1.md": tenfold("2.md"),
      "orders/2.md": tenfold("3.md"),
      "orders/3.md": tenfold("4.md"),
      "orders/4.md": "x".repeat(10_000),
    };
    expect(problemsOf(agent("", tenfold("1.md")), files)[0]).toMatch(/too large/);
    expect(problemsOf(agent("", tenfold("1.md")), { ...files, "orders/4.md": "" })[0]).toMatch(/too large/);
    expect(problemsOf(agent("", "{{prompt}}".repeat(1_001)))[0]).toMatch(/too large/);
  });

  test("of braces without end are read in linear time", () => {
    expect(problemsOf(agent("", "{{>".repeat(20_000)))).toEqual([]);
    expect(problemsOf(agent("", `{{>${" ".repeat(60_000)}`))).toEqual([]);
  });
});

describe("a scripted model", () => {
  test("names a script whose text becomes part of the definition", () => {
    const definition = definitionOf(agent("model: scripted/../scripts/order.yaml\n"), {
      "scripts/order.yaml": "turns: []",
    });
    expect(definition.script).toEqual({ file: "scripts/order.yaml", text: "turns: []" });
  });

  test("is refused when its script is missing, broken, or elsewhere", () => {
    expect(problemsOf(agent("model: scripted/no.yaml\n"))).toEqual([
      "orders/Agent.md:3 model: script orders/no.yaml does not exist",
    ]);
    expect(problemsOf(agent("model: scripted/a.yaml\n"), { "orders/a.yaml": "broken" })).toEqual([
      "orders/a.yaml:3 is broken",
    ]);
    expect(problemsOf(agent("model: scripted/../../a.yaml\n"))[0]).toMatch(/must name a \.yaml file within/);
    expect(problemsOf(agent("model: scripted/a.md\n"))[0]).toMatch(/must name a \.yaml file/);
  });
});
