import { expect, test } from "vitest";

import { createUsageReader } from "./usage-reader.ts";

const completesWith = (raw: object): boolean => {
  const reader = createUsageReader();
  reader.take(raw);
  expect(reader.usage()).toMatchObject({ inputTokens: 7, outputTokens: 3 });
  return reader.isComplete();
};

test("a count on the way is not taken for that of the whole answer", () => {
  const usage = { prompt_tokens: 7, completion_tokens: 3 };
  expect(completesWith({ choices: [{ delta: { content: "a" }, finish_reason: null }], usage })).toBe(false);
  expect(completesWith({ choices: [{ delta: { content: "a" }, finish_reason: "stop" }], usage })).toBe(true);
  expect(completesWith({ choices: [], usage })).toBe(true);
  expect(completesWith({ usage })).toBe(true);
  const counts = { input_tokens: 7, output_tokens: 3 };
  expect(completesWith({ type: "message_start", message: { usage: counts } })).toBe(false);
  expect(completesWith({ type: "message_delta", delta: { stop_reason: "end_turn" }, usage: counts })).toBe(true);
});
