import { expect, test } from "vitest";

import { leastTokens } from "./least-tokens.ts";

test("a conversation takes at least a token for eight characters of all its messages together", () => {
  expect(
    leastTokens([
      { role: "system", text: "x".repeat(80) },
      { role: "user", text: "y".repeat(8) },
    ]),
  ).toBe(11);
});
