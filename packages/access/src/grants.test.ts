import { describe, expect, test } from "vitest";
import {
  agentGrantResource,
  agentOfGrantResource,
  agentResource,
  createPermissionCheck,
  isGrantResource,
} from "./grants.ts";

const can = (grants: readonly [string, string][]) =>
  createPermissionCheck(grants.map(([action, resource]) => ({ action, resource })));

describe("a permission", () => {
  test("is denied without a grant", () => {
    expect(can([])("agent:execute", "/agents/A/")).toBe(false);
  });

  test("on one agent covers it and what is below, and no agent whose name begins the same", () => {
    const ask = can([["agent:execute", agentGrantResource("Order")]]);
    expect(ask("agent:execute", agentResource("Order"))).toBe(true);
    expect(ask("agent:execute", "/agents/Order")).toBe(true);
    expect(ask("agent:execute", "/agents/Order/tasks/")).toBe(true);
    for (const other of ["/agents/Orders/", "/agents/Orde/", "/agents/", "/", "/agents/order/", "/agents//Order/"]) {
      expect(ask("agent:execute", other)).toBe(false);
    }
  });

  test("on all agents covers every agent and nothing else", () => {
    const ask = can([["agent:execute", agentGrantResource("*")]]);
    expect(ask("agent:execute", agentResource("A"))).toBe(true);
    expect(ask("agent:execute", "/agents/")).toBe(true);
    for (const other of ["/agentsx/A/", "/apiKeys/A/", "/"]) expect(ask("agent:execute", other)).toBe(false);
  });

  test("for one action brings no other; the action * brings every one and is asked for only as itself", () => {
    expect(can([["agent:execute", "/agents/*"]])("agent:read", "/agents/A/")).toBe(false);
    expect(can([["agent:execute", "/agents/*"]])("*", "/agents/A/")).toBe(false);
    expect(can([["agent:*", "/agents/*"]])("agent:read", "/agents/A/")).toBe(false);
    expect(can([["*", "/agents/*"]])("agent:read", "/agents/A/")).toBe(true);
    expect(can([["*", "/agents/*"]])("*", "/agents/A/")).toBe(true);
  });

  test("on the root covers everything", () => {
    expect(can([["agent:read", "/*"]])("agent:read", "/agents/A/")).toBe(true);
  });

  test.each([
    "/agents/a",
    "/agents/**",
    "/agents/*/x/*",
    "/a_b/*",
    "/a%b/*",
    "/a\\b/*",
    "/../*",
    "*",
    "",
    "/x*",
    "//*",
  ])("granted on %s, which Permiso's databases read differently, gives nothing", (resource) => {
    expect(isGrantResource(resource)).toBe(false);
    expect(can([["agent:execute", resource]])("agent:execute", resource.replace("*", "x"))).toBe(false);
  });
});

describe("an agent's resource path", () => {
  test.each(["ProcessOrder", "process_order", "A-1", "a/b", "repo:dir/Name", "~x", "é"])(
    "of %s is one grantable segment and reads back",
    (name) => {
      expect(isGrantResource(agentGrantResource(name))).toBe(true);
      expect(agentResource(name)).toMatch(/^\/agents\/[A-Za-z0-9~-]+\/$/);
      expect(agentOfGrantResource(agentGrantResource(name))).toBe(name);
      expect(can([["agent:execute", agentGrantResource(name)]])("agent:execute", agentResource(name))).toBe(true);
    },
  );

  test("fits into Permiso's 255 characters for the longest name", () => {
    expect(isGrantResource(agentGrantResource("_".repeat(64)))).toBe(true);
  });

  test("names that differ in one sign get different paths", () => {
    const names = ["a_b", "a-b", "a~5fb", "ab", "a/b", "A_b"];
    expect(new Set(names.map(agentResource)).size).toBe(names.length);
  });
});
