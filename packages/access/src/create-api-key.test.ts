import { describeIssues } from "@shaman/kernel";
import { expect, test } from "vitest";
import { createApiKeyInput } from "./create-api-key.ts";

const rule = "must be the name of an agent: 1 to 64 letters, digits, - or _";

test.each([
  [["ok", 5, "B!"], `agents[1]: ${rule}; agents[2]: ${rule}`],
  [["B!"], `agents[0]: ${rule}`],
  [[], "agents: must name an agent, or be *"],
  ["all", "agents: must be *, or must be a list"],
  [undefined, "agents: is missing"],
])("agents %j of a new key are refused with each place and the rule for names", (agents, message) => {
  expect(describeIssues(createApiKeyInput.safeParse({ name: "k", agents }).error?.issues ?? [])).toBe(message);
});
