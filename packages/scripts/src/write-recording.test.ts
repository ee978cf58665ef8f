import { describe, expect, test } from "vitest";

import { parseScript } from "./parse-script.ts";
import { writeRecording, type RecordedAnswer } from "./write-recording.ts";

const digest = (letter: string): string => letter.repeat(22);
const request = { system: digest("a"), messages: digest("b"), tools: digest("c"), settings: digest("d") };

const answer = (fields: Partial<RecordedAnswer> = {}): RecordedAnswer => ({
  request,
  text: "Good morning",
  toolCalls: [],
  usage: { inputTokens: 10, outputTokens: 3, cachedInputTokens: 4 },
  finishReason: "stop",
  model: "openai/m-1",
  ...fields,
});

const turnsOf = (text: string) => {
  const parsed = parseScript(text, "r.yaml");
  if (!parsed.ok) throw new Error(parsed.error.map(({ line, message }) => `${line} ${message}`).join("; "));
  return parsed.value.turns;
};

const write = (...answers: readonly RecordedAnswer[]): string => {
  const written = writeRecording(answers, "Greeter in run_1");
  if (!written.ok) throw written.error;
  return written.value;
};

describe("a recording", () => {
  test("is a script that says where it comes from, and answers exactly its request", () => {
    const text = write(answer());
    expect(text).toMatch(/^# Recorded from openai\/m-1, Greeter in run_1\.\n/);
    const [turn] = turnsOf(text);
    const asked = { prompt: "", messageId: "", turn: 9, toolResults: [] };
    expect(turn?.matches({ ...asked, request: () => request }, new Map())).toBe(true);
    for (const part of ["system", "messages", "tools", "settings"] as const) {
      const other = { ...request, [part]: digest("e") };
      expect(turn?.matches({ ...asked, request: () => other }, new Map()), part).toBe(false);
    }
    expect(turn?.matches(asked, new Map())).toBe(false);
    expect(turn).toMatchObject({
      usage: { inputTokens: 10, outputTokens: 3, cachedInputTokens: 4 },
      finishReason: "stop",
    });
  });

  test.each([
    "{{prompt}} and {{nobody}}",
    "lines\n  indented\n\n# no comment\n- no list",
    "  spaces  \t",
    "ends in a line\n",
    "quotes ' \" and : {braces} [brackets] & * ! | > %",
    "\u0001 control, 🌍 and \u2028",
    "yes",
    "1.0",
    "",
  ])("keeps what the model wrote to the letter, templates included: %j", (text) => {
    const input = { text, [text || "key"]: [text] };
    const [first, second] = turnsOf(write(answer({ text }), answer({ text: "", toolCalls: [{ name: "t", input }] })));
    expect(first?.chunks.map((chunk) => chunk.text(new Map([["prompt", "x"]]))).join("")).toBe(text);
    expect(second?.toolCalls.map((call) => call.input(new Map([["prompt", "x"]])))).toEqual([input]);
  });

  test("is one comment line however the agent is named", () => {
    const written = writeRecording([answer()], "evil\nturns: []\n#");
    expect(written.ok && turnsOf(written.value)).toHaveLength(1);
  });

  test("that no script could hold is refused", () => {
    const written = writeRecording([answer({ text: "x".repeat(70_000) })], "");
    expect(written.ok ? "ok" : written.error.message).toContain("larger than 64 kB");
  });
});
