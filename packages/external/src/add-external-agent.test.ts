import { describeIssues } from "@shaman/kernel";
import { expect, test } from "vitest";
import { addExternalAgentInput } from "./add-external-agent.ts";

test.each([
  [{ credential: { kind: "basic" } }, "credential.kind: must be apiKey, bearer or clientCredentials"],
  [{ credential: {} }, "credential.kind: must be apiKey, bearer or clientCredentials"],
  [{ signature: { kind: "key" } }, "signature.kind: must be jku, jwksUrl or keys"],
  [{ url: "" }, "url: must not be empty"],
])("%j of an outside agent is refused with what it may be", (input, message) => {
  const parsed = addExternalAgentInput.safeParse({ name: "Partner", url: "https://partner.example", ...input });
  expect(describeIssues(parsed.error?.issues ?? [])).toBe(message);
});
