import { expect, test } from "vitest";
import { findDecision, isUnclearDecision } from "./approval.ts";

const said = (...data: readonly unknown[]) => ({
  parts: data.map((one) => ({ data: JSON.parse(JSON.stringify(one)) })),
});
const ID = "approval_ce973d37a6277a49";

test("a decision is one of two words about an approval", () => {
  const message = said({ note: "x" }, { approval: { id: ID, decision: "refuse", reason: "too dear" } });
  expect(findDecision(message)).toEqual({ id: ID, decision: "refuse", reason: "too dear" });
  expect(isUnclearDecision(message)).toBe(false);
});

test.each([
  { approval: { id: ID, decision: "maybe" } },
  { approval: { id: ID } },
  { approval: { id: ID, decision: "approve", reason: 7 } },
])("%j means to decide and does not", (data) => {
  expect(findDecision(said(data))).toBeUndefined();
  expect(isUnclearDecision(said(data))).toBe(true);
});

test.each([{ approval: "by the board" }, { approval: { id: 7 } }, { note: "x" }])(
  "%j is about something else",
  (data) => {
    expect(isUnclearDecision(said(data))).toBe(false);
  },
);

test("text decides nothing and is not unclear about it", () => {
  expect(isUnclearDecision({ parts: [{ text: "maybe" }] })).toBe(false);
});
