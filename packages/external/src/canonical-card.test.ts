import { AgentCard, canonicalizeAgentCard } from "@a2a-js/sdk";
import type { JsonObject } from "@shaman/kernel";
import { describe, expect, test } from "vitest";

import { canonicalForms } from "./canonical-card.ts";

const CARD: JsonObject = {
  version: "1.0.0",
  name: "P",
  description: "",
  supportedInterfaces: [{ url: "https://p.test/", protocolBinding: "JSONRPC", protocolVersion: "1.0", tenant: "" }],
  capabilities: { streaming: false, extensions: [] },
  securitySchemes: { key: { apiKeySecurityScheme: { name: "X-Key", location: "header", description: "" } } },
  securityRequirements: [{ schemes: { key: { list: [] } } }],
  defaultInputModes: ["text/plain"],
  defaultOutputModes: ["text/plain"],
  skills: [],
  signatures: [{ protected: "x", signature: "y" }],
  ours: { "10": 1, "2": 1e21, é: "\u20ac" },
};

describe("the texts that a card's signature may be over", () => {
  test("hold the card as it stands, keys sorted by code unit, numbers and strings as ECMAScript writes them", () => {
    const [asItStands] = canonicalForms(CARD);
    expect(asItStands).toMatch(/^\{"capabilities":\{"extensions":\[\],"streaming":false\},"defaultInputModes":/);
    expect(asItStands).toContain('"ours":{"10":1,"2":1e+21,"é":"€"}');
    expect(asItStands).not.toContain("signatures");
  });

  test("hold what the presence rules keep of it: what is required or optional and set, nothing else at its default", () => {
    expect(canonicalForms(CARD)).toContain(
      '{"capabilities":{"streaming":false},"defaultInputModes":["text/plain"],"defaultOutputModes":["text/plain"],' +
        '"description":"","name":"P","securityRequirements":[{"schemes":{"key":{}}}],' +
        '"securitySchemes":{"key":{"apiKeySecurityScheme":{"location":"header","name":"X-Key"}}},"skills":[],' +
        '"supportedInterfaces":[{"protocolBinding":"JSONRPC","protocolVersion":"1.0","url":"https://p.test/"}],"version":"1.0.0"}',
    );
  });

  test("hold what the official SDK signs", () => {
    expect(canonicalForms(CARD)).toContain(canonicalizeAgentCard(AgentCard.fromJSON(CARD)));
  });

  test("are not made of a card that is nested without end", () => {
    let deep: JsonObject = {};
    for (let i = 0; i < 10_000; i += 1) deep = { deep };
    expect(() => canonicalForms({ ...CARD, deep })).toThrow("nested more than 64 deep");
  });
});
