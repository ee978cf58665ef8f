import { describe, expect, test } from "vitest";

import { parseScript } from "./parse-script.ts";

const problemsOf = (text: string): string[] => {
  const parsed = parseScript(text, "s.yaml");
  return parsed.ok ? [] : parsed.error.map((problem) => `${problem.file}:${problem.line} ${problem.message}`);
};

describe("parseScript", () => {
  test("accepts every field of the format", () => {
    expect(
      problemsOf(`
turns:
  - match:
      prompt: {regex: "(?P<word>\\\\w+)"}
      messageId: m-1
      toolResult: {tool: t, output: {regex: "(?P<out>.*)"}, isError: false}
      turn: 2
    text: ["{{word}}", {text: "{{out}}", delayMs: 5}]
    delayMs: 1
    toolCalls: [{name: a, input: {x: [1, true, null, "{{prompt}}"]}}]
    usage: {inputTokens: 1}
    finishReason: length
  - error: {status: 503, retryAfterSeconds: 1}
  - error: cut
  - error: hang
`),
    ).toEqual([]);
  });

  test("names the line of every problem", () => {
    const problems = problemsOf(`turns:
  - match: {prompt: {regex: "(?=x)"}}
    text: a
  - text: "{{order}}"
  - toolCalls:
      - name: a
        input: {id: "{{nope}}"}
`);
    expect(problems).toHaveLength(3);
    expect(problems[0]).toMatch(/^s\.yaml:2 turns\[0\]\.match\.prompt\.regex is not a pattern in RE2 syntax/);
    expect(problems[1]).toBe("s.yaml:4 turns[1].text quotes {{order}}, but this turn only has {{prompt}}");
    expect(problems[2]).toMatch(/^s\.yaml:7 turns\[2\]\.toolCalls\[0\]\.input quotes \{\{nope\}\}/);
  });

  test("refuses fields it does not know, turns that say nothing, and values out of range", () => {
    expect(problemsOf("turns:\n  - text: a\n  - txt: b\n")[0]).toMatch(/^s\.yaml:3 .*txt/);
    expect(problemsOf("turns:\n  - match: {turn: 1}\n")[0]).toMatch(/^s\.yaml:2 .*says nothing/);
    expect(problemsOf("turns:\n  - error: {status: 200}\n")[0]).toMatch(/^s\.yaml:2 turns\[0\]\.error/);
    expect(problemsOf("turns:\n  - text: a\n    match: {prompt: 7}\n")[0]).toMatch(
      /^s\.yaml:3 turns\[0\]\.match\.prompt must be a text/,
    );
    expect(problemsOf("turns:\n  - toolCalls: x\n")).toEqual(["s.yaml:2 turns[0].toolCalls must be a list"]);
    expect(problemsOf("turns:\n  - text: a\n    match: 5\n")).toEqual(["s.yaml:3 turns[0].match must be an object"]);
    expect(problemsOf("turns: []\n")).toHaveLength(1);
    expect(problemsOf("hello")).toHaveLength(1);
    expect(problemsOf("")).toHaveLength(1);
  });

  test("refuses broken YAML, doubled keys, tags that would build objects, alias bombs, deep nesting and large files", () => {
    expect(problemsOf("turns:\n  - text: [a\n")[0]).toMatch(/^s\.yaml:\d+ is not valid YAML/);
    expect(problemsOf("turns:\n  - text: a\n    text: b\n")[0]).toMatch(/^s\.yaml:3 is not valid YAML/);
    expect(problemsOf("turns:\n  - text: !!js/function 'x'\n    match: {turn: .inf}\n")).not.toEqual([]);
    const bomb = ["a: &a [x,x,x,x,x,x,x,x,x]"];
    for (const [before, name] of [
      ["a", "b"],
      ["b", "c"],
      ["c", "d"],
      ["d", "e"],
      ["e", "f"],
    ]) {
      bomb.push(`${name}: &${name} [${Array.from({ length: 9 }, () => `*${before}`).join(",")}]`);
    }
    expect(problemsOf(bomb.join("\n"))[0]).toMatch(/cannot be read as YAML/);
    expect(problemsOf("[".repeat(60_000))).not.toEqual([]);
    expect(problemsOf(`turns:\n  - text: ${"x".repeat(70_000)}\n`)[0]).toMatch(/is larger than 64 kB/);
  });

  test("refuses patterns whose work would grow beyond measure", () => {
    expect(problemsOf('turns:\n  - match: {prompt: {regex: "(x{20}){40}"}}\n    text: a\n')[0]).toMatch(
      /too large a pattern/,
    );
    const turn = '  - match: {prompt: {regex: "x{400}"}}\n    text: a\n';
    expect(problemsOf(`turns:\n${turn.repeat(20)}`)[0]).toMatch(/too many patterns/);
  });

  test("a field named __proto__ stays a plain field of the tool's input", () => {
    const parsed = parseScript('turns:\n  - toolCalls: [{name: a, input: {__proto__: {x: "{{prompt}}"}}}]\n', "s.yaml");
    if (!parsed.ok) throw new Error(JSON.stringify(parsed.error));
    const input = parsed.value.turns[0]?.toolCalls[0]?.input(new Map([["prompt", "p"]]));
    expect(Object.getPrototypeOf(input)).toBe(Object.prototype);
  });
});
