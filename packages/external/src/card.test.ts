import { unwrap } from "@shaman/kernel";
import { describe, expect, test } from "vitest";

import { chooseInterface, parseCard } from "./card.ts";
import { cardUrlsOf } from "./fetch-card.ts";
import { freshnessOf } from "./freshness.ts";

const base = { name: "A", description: "d", version: "1", capabilities: {}, skills: [] };

describe("a foreign card", () => {
  test("of 1.0 gives its first interface that we speak, in its own order and with its tenant", () => {
    const card = unwrap(
      parseCard({
        ...base,
        supportedInterfaces: [
          { url: "https://a/grpc", protocolBinding: "GRPC", protocolVersion: "1.0" },
          { url: "https://a/new", protocolBinding: "JSONRPC", protocolVersion: "2.0" },
          { url: "https://a/rest", protocolBinding: "HTTP+JSON", protocolVersion: "1.0", tenant: "t 1" },
          { url: "https://a/rpc", protocolBinding: "JSONRPC", protocolVersion: "1.0" },
        ],
      }),
    );
    expect(unwrap(chooseInterface(card))).toEqual({
      url: "https://a/rest",
      binding: "HTTP+JSON",
      version: "1.0",
      tenant: "t 1",
    });
  });

  test.each([
    [5, "it must be an object"],
    [{ ...base, name: 5 }, "name: must be text"],
  ])("that is none, such as %j, is refused in words of ours", (value, why) => {
    const parsed = parseCard(value);
    expect(parsed.ok ? "" : parsed.error.message).toBe(`What is at this address is no Agent Card: ${why}.`);
  });

  test("of 0.3 gives its preferred transport first, and JSON-RPC when it names none", () => {
    const old = { ...base, protocolVersion: "0.3.0", url: "https://a/main" };
    const additionalInterfaces = [{ url: "https://a/rpc", transport: "JSONRPC" }];
    const rest = unwrap(parseCard({ ...old, preferredTransport: "HTTP+JSON", additionalInterfaces }));
    expect(unwrap(chooseInterface(rest))).toMatchObject({
      url: "https://a/main",
      binding: "HTTP+JSON",
      version: "0.3",
    });
    expect(unwrap(chooseInterface(unwrap(parseCard(old))))).toMatchObject({ binding: "JSONRPC", version: "0.3" });
    const grpc = unwrap(parseCard({ ...old, preferredTransport: "GRPC", additionalInterfaces }));
    expect(unwrap(chooseInterface(grpc)).url).toBe("https://a/rpc");
  });

  test("names schemes alike in both versions", () => {
    const interfaces = {
      supportedInterfaces: [{ url: "https://a", protocolBinding: "JSONRPC", protocolVersion: "1.0" }],
    };
    const flows = { clientCredentials: { tokenUrl: "https://t", scopes: { s: "S" } } };
    const current = unwrap(
      parseCard({
        ...base,
        ...interfaces,
        securitySchemes: {
          k: { apiKeySecurityScheme: { location: "header", name: "X-Key" } },
          b: { httpAuthSecurityScheme: { scheme: "Bearer" } },
          o: { oauth2SecurityScheme: { flows } },
        },
        securityRequirements: [{ schemes: { o: { list: ["s"] } } }],
      }),
    );
    const old = unwrap(
      parseCard({
        ...base,
        url: "https://a",
        securitySchemes: {
          k: { type: "apiKey", in: "header", name: "X-Key" },
          b: { type: "http", scheme: "Bearer" },
          o: { type: "oauth2", flows },
        },
        security: [{ o: ["s"] }],
      }),
    );
    expect(old.schemes).toEqual(current.schemes);
    expect(old.needs).toEqual(current.needs);
    expect(current.needs).toEqual([{ o: ["s"] }]);
  });

  test("that is none, or requires what no header can carry, is refused", () => {
    const supportedInterfaces = [{ url: "https://a", protocolBinding: "JSONRPC", protocolVersion: "1.0" }];
    const required = (uri: unknown) => ({
      ...base,
      supportedInterfaces,
      capabilities: { extensions: [{ uri, required: true }] },
    });
    for (const odd of [
      null,
      [],
      "x",
      {},
      base,
      { ...base, supportedInterfaces: [{}] },
      required("a\r\nb"),
      required(""),
      required("a,b"),
    ]) {
      expect(parseCard(odd).ok, JSON.stringify(odd)).toBe(false);
    }
    expect(unwrap(parseCard(required("https://e/v1"))).requiredExtensions).toEqual(["https://e/v1"]);
  });

  test("is looked for at its address and at the well-known place below it", () => {
    expect(cardUrlsOf("https://a/x/")).toEqual(["https://a/x/", "https://a/x/.well-known/agent-card.json"]);
    expect(cardUrlsOf("https://a/card.json")).toEqual(["https://a/card.json"]);
  });
});

describe("freshness", () => {
  const leftMs = (headers: Record<string, string>): number =>
    freshnessOf(new Headers(headers), 1_000).expiresAtMs - 1_000;

  test("follows max-age less Age, then Expires against Date, then five minutes, and never more than a day", () => {
    expect(leftMs({ "cache-control": 'public, max-age="60"', age: "10" })).toBe(50_000);
    expect(leftMs({ "cache-control": "max-age=10", age: "60" })).toBe(0);
    const date = "Tue, 01 Sep 2026 10:00:00 GMT";
    expect(leftMs({ date, expires: "Tue, 01 Sep 2026 10:01:00 GMT" })).toBe(60_000);
    expect(leftMs({ date, expires: "0" })).toBe(0);
    expect(leftMs({})).toBe(300_000);
    expect(leftMs({ "cache-control": "max-age=99999999" })).toBe(86_400_000);
    expect(leftMs({ "cache-control": "max-age=nonsense" })).toBe(0);
  });

  test("is none for no-cache and no-store, which like must-revalidate forbid stale use", () => {
    for (const name of ["no-cache", "no-store"]) {
      expect(leftMs({ "cache-control": `${name}, max-age=60` })).toBe(0);
    }
    for (const name of ["no-cache", "no-store", "must-revalidate"]) {
      expect(freshnessOf(new Headers({ "cache-control": name }), 0).mayBeStale).toBe(false);
    }
    expect(freshnessOf(new Headers(), 0).mayBeStale).toBe(true);
  });
});
