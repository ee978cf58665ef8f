import { describe, expect, test } from "vitest";
import { slugOfHost } from "./host.ts";
import { slugSchema } from "./slug.ts";
import { tenancyConfig } from "./tenancy-config.ts";

describe("the organization in a Host header", () => {
  test.each([
    ["acme.localhost:5000", "acme"],
    ["acme.localhost", "acme"],
    ["ACME.LocalHost:1", "acme"],
    ["acme.localhost.", "acme"],
    ["a-1.localhost", "a-1"],
  ])("%s is %s", (host, slug) => expect(slugOfHost(host, "localhost")).toBe(slug));

  test.each([
    "",
    "localhost",
    ".localhost",
    "localhost:5000",
    "a.acme.localhost",
    "acme.localhost.example.com",
    "acmelocalhost",
    "acme.localhost:999999",
    "acme_1.localhost",
    "acme.localhost/x",
    "acme.localhost:5000@evil",
    "127.0.0.1:5000",
    "[::1]:5000",
    `${"a".repeat(64)}.localhost`,
    "akme\u0000.localhost",
  ])("%j is none", (host) => expect(slugOfHost(host, "localhost")).toBeUndefined());

  test("belongs to the configured domain only", () => {
    expect(slugOfHost("acme.agents.example.com", "agents.example.com")).toBe("acme");
    expect(slugOfHost("acme.example.com", "agents.example.com")).toBeUndefined();
  });
});

describe("a slug", () => {
  test.each(["acme", "tech-corp", "a1", "1a", "a".repeat(63)])("may be %s", (slug) =>
    expect(slugSchema.safeParse(slug).success).toBe(true),
  );

  test.each([
    "",
    "a",
    "Acme",
    "-acme",
    "acme-",
    "ac me",
    "ac.me",
    "ac_me",
    "xn--acme",
    "a".repeat(64),
    "www",
    "api",
    "akmé",
  ])("may not be %j", (slug) => expect(slugSchema.safeParse(slug).success).toBe(false));
});

describe("the addresses' configuration", () => {
  test("works without any setting, for development", () => {
    const config = tenancyConfig.read({});
    expect(config.ok && config.value.baseDomain).toBe("localhost");
    expect(config.ok && config.value.publicUrlOf("acme")).toBe("http://acme.localhost:5000");
  });

  test.each([
    { BASE_DOMAIN: "example.com:80" },
    { BASE_DOMAIN: "https://example.com" },
    { PUBLIC_URL_TEMPLATE: "https://example.com" },
    { PUBLIC_URL_TEMPLATE: "https://{org}.example.com/path" },
    { PUBLIC_URL_TEMPLATE: "ftp://{org}.example.com" },
    { PUBLIC_URL_TEMPLATE: "{org}.example.com" },
  ])("refuses %j in a sentence", (env) => {
    const config = tenancyConfig.read(env);
    expect(config.ok ? [] : config.error).toHaveLength(1);
  });
});
