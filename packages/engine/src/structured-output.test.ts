import { describe, expect, test } from "vitest";
import { judgeOutput } from "./structured-output.ts";

const schema = { type: "object", required: ["total"], properties: { total: { type: "number", minimum: 0 } } };

describe("an agent's final text", () => {
  test("is free where the agent promises no form", () => {
    expect(judgeOutput(undefined, { text: "anything", repairs: 0 })).toEqual({ kind: "free" });
  });

  test.each(['{"total": 3}', '  {"total": 3}\n', '```json\n{"total": 3}\n```', '```\n{"total": 3}\n```'])(
    "fits as JSON, also in a fence: %j",
    (text) => expect(judgeOutput(schema, { text, repairs: 0 })).toEqual({ kind: "fits", value: { total: 3 } }),
  );

  test.each([
    ['{"total": -1}', "should be `0` at minimum"],
    ["{}", "`total` is missing"],
    ['Here you are: {"total": 3}', "not one JSON value"],
    ['{"total": 3} {"total": 4}', "not one JSON value"],
    ["", "not one JSON value"],
    [JSON.stringify("x".repeat(300_000)), "larger than 256 kB"],
    ["[".repeat(100_000) + "]".repeat(100_000), "nested too deeply"],
  ])("that does not fit is sent back once with what is wrong (%#), and fails the second time", (text, problem) => {
    const first = judgeOutput(schema, { text, repairs: 0 });
    expect(first).toMatchObject({ kind: "repair", message: { role: "user", text: expect.stringContaining(problem) } });
    expect(first.kind === "repair" && first.message.role === "user" && first.message.text).toContain(
      JSON.stringify(schema),
    );
    const second = judgeOutput(schema, { text, repairs: 1 });
    expect(second).toMatchObject({
      kind: "invalid",
      failure: { code: "output_invalid", retryable: false, message: expect.stringContaining(problem) },
    });
  });
});
