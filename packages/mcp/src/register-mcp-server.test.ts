import { describeIssues } from "@shaman/kernel";
import { expect, test } from "vitest";
import { registerMcpServerInput } from "./register-mcp-server.ts";

test("a way to authenticate that there is not is refused with those that there are", () => {
  const input = { name: "shop", url: "https://shop.example/mcp", auth: { kind: "basic" } };
  const { error } = registerMcpServerInput.safeParse(input);
  expect(describeIssues(error?.issues ?? [])).toBe("auth.kind: must be none, headers or oauth");
});
