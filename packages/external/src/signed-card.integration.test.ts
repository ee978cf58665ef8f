import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { createServer, type IncomingMessage } from "node:http";
import { AgentCard, generateAgentCardSignature } from "@a2a-js/sdk";
import { Secret, unwrap, type Json, type JsonObject } from "@shaman/kernel";
import { startExternalCallScene, type ExternalCallScene } from "@shaman/testkit";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";

import type { AddExternalAgentInput } from "./add-external-agent.ts";
import { getExternalAgent } from "./list-external-agents.ts";

/** Cards that are signed with the official SDK, and cards for those who authenticate. */

let scene: ExternalCallScene;
beforeAll(async () => {
  scene = await startExternalCallScene();
});
afterAll(() => scene.close());

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

type Answer = { readonly status?: number; readonly body: Json };

/** A server whose answers can be changed while it runs; every card has to be asked for again each time. */
const serve = async () => {
  const answers = new Map<string, (body: JsonObject, incoming: IncomingMessage) => Answer>();
  const seen: { readonly path: string; readonly authorization: string | undefined }[] = [];
  const server = createServer((incoming, outgoing) => {
    let text = "";
    incoming.on("data", (data) => (text += String(data)));
    incoming.on("end", () => {
      const path = incoming.url ?? "";
      seen.push({ path, authorization: incoming.headers.authorization });
      const { status = 200, body } = answers.get(path)?.(text === "" ? {} : JSON.parse(text), incoming) ?? {
        status: 404,
        body: null,
      };
      outgoing.writeHead(status, { "content-type": "application/json", "cache-control": "no-cache" });
      outgoing.end(JSON.stringify(body));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(
    () =>
      new Promise((resolve) => {
        server.close(resolve);
        server.closeAllConnections();
      }),
  );
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  const origin = `http://127.0.0.1:${address.port}`;
  const put = (path: string, body: Json, status = 200): void => void answers.set(path, () => ({ status, body }));
  return { origin, seen, answers, put, cardUrl: `${origin}/card.json`, keysUrl: `${origin}/keys.json` };
};
type Served = Awaited<ReturnType<typeof serve>>;

const cardOf = (origin: string, more: JsonObject = {}): JsonObject => ({
  name: "Partner agent",
  description: "Works for us",
  version: "1.0.0",
  supportedInterfaces: [{ url: `${origin}/rpc`, protocolBinding: "JSONRPC", protocolVersion: "1.0" }],
  capabilities: { streaming: true },
  defaultInputModes: ["text/plain"],
  defaultOutputModes: ["text/plain"],
  skills: [],
  ...more,
});

const newKey = (kid: string) => {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  return { kid, privateKey, jwk: { ...publicKey.export({ format: "jwk" }), kid } as JsonObject };
};
type Key = { readonly kid: string; readonly privateKey: KeyObject; readonly jwk: JsonObject };

/** The card with a signature as the SDK makes it. */
const sign = async (card: JsonObject, { kid, privateKey }: Key, jku?: string): Promise<JsonObject> => {
  const header = { alg: "ES256", kid, typ: "JOSE", ...(jku !== undefined && { jku }) };
  const { signatures } = await generateAgentCardSignature(privateKey, header)(AgentCard.fromJSON(card));
  return { ...card, signatures: signatures.map(({ protected: one, signature }) => ({ protected: one, signature })) };
};

const add = (server: Served, signature?: AddExternalAgentInput["signature"]) =>
  scene.given(server.cardUrl, signature === undefined ? {} : { signature });
const openIt = async ({ deps, orgId, target }: Awaited<ReturnType<typeof add>>) => {
  const opened = await deps.directory.open({ orgId, target, signal: new AbortController().signal });
  return opened.ok ? opened.value.card.name : opened.error.code;
};
const viewOf = async ({ operator }: Awaited<ReturnType<typeof add>>) =>
  unwrap(await getExternalAgent({ db: scene.database.as("web") }, operator, "Partner"));

describe("a card that is signed", () => {
  test("is checked by the key that its signature names, and nothing of it is read but what was signed", async () => {
    const server = await serve();
    const key = newKey("k1");
    server.put("/keys.json", { keys: [key.jwk] });
    const card = await sign(cardOf(server.origin), key, server.keysUrl);
    server.put("/card.json", { ...card, supportsAuthenticatedExtendedCard: true });
    const given = await add(server);
    expect((await viewOf(given)).card).toMatchObject({ name: "Partner agent", signedBy: server.keysUrl });
    const opened = await given.deps.directory.open({ ...given, signal: new AbortController().signal });
    expect(unwrap(opened).card.offersExtended).toBe(false);
  });

  test("is refused when it was changed after it was signed, whether or not a signature is demanded", async () => {
    const server = await serve();
    const key = newKey("k1");
    server.put("/keys.json", { keys: [key.jwk] });
    const card = await sign(cardOf(server.origin), key, server.keysUrl);
    server.put("/card.json", card);
    const given = await add(server);
    server.put("/card.json", { ...card, description: "Works for us, for nothing" });
    expect(await openIt(given)).toBe("external_card_signature_invalid");
    await expect(add(server)).rejects.toMatchObject({ code: "external_card_signature_invalid" });
  });

  test("leads to no key at an address that must not be called", async () => {
    const server = await serve();
    const card = await sign(cardOf(server.origin), newKey("k1"), "http://169.254.169.254/keys");
    server.put("/card.json", card);
    await expect(add(server)).rejects.toMatchObject({ code: "outbound_refused" });
  });

  test("counts as one that is not where its key cannot be had, and one signature that holds is enough", async () => {
    const server = await serve();
    const [key, other] = [newKey("k1"), newKey("k2")];
    const unknown = await sign(cardOf(server.origin), other, `${server.origin}/nothing-there`);
    server.put("/card.json", unknown);
    expect((await viewOf(await add(server))).card.signedBy).toBeUndefined();
    server.put("/keys.json", { keys: [{ kty: "oct", k: "c2VjcmV0", kid: "k1" }, key.jwk] });
    const known = await sign(cardOf(server.origin), key, server.keysUrl);
    const signatures = [unknown, known].flatMap((one) => (Array.isArray(one.signatures) ? one.signatures : []));
    server.put("/card.json", { ...cardOf(server.origin), signatures });
    expect((await viewOf(await add(server))).card.signedBy).toBe(server.keysUrl);
  });
});

describe("a card that must be signed", () => {
  test("by keys that were given is refused without a signature of theirs, at once and whenever it changes", async () => {
    const server = await serve();
    const [key, thief] = [newKey("k1"), newKey("k1")];
    const keys: AddExternalAgentInput["signature"] = { kind: "keys", jwks: { keys: [key.jwk] } };
    server.put("/card.json", cardOf(server.origin));
    await expect(add(server, keys)).rejects.toMatchObject({ code: "external_card_unsigned" });
    server.put("/keys.json", { keys: [thief.jwk] });
    server.put("/card.json", await sign(cardOf(server.origin), thief, server.keysUrl));
    await expect(add(server, keys)).rejects.toMatchObject({ code: "external_card_signature_invalid" });
    server.put("/card.json", await sign(cardOf(server.origin), key));
    const given = await add(server, keys);
    expect(await viewOf(given)).toMatchObject({ card: { signedBy: "registered keys" }, cardTrust: { kind: "keys" } });
    server.put("/card.json", await sign(cardOf(server.origin, { name: "Renamed" }), key));
    expect(await openIt(given)).toBe("Renamed");
    server.put("/card.json", cardOf(server.origin));
    expect(await openIt(given)).toBe("external_card_unsigned");
    // What was asked for in vain is nothing that was kept.
    expect(server.seen.filter(({ path }) => path === "/keys.json")).toEqual([]);
  });

  test("by the keys it names today may not name others tomorrow, nor use one that was withdrawn or has ended", async () => {
    const server = await serve();
    const [key, thief, ended] = [newKey("k1"), newKey("k2"), newKey("k3")];
    server.put("/keys.json", { keys: [key.jwk, { ...ended.jwk, exp: 1 }] });
    server.put("/card.json", await sign(cardOf(server.origin), key));
    await expect(add(server, { kind: "jku" })).rejects.toMatchObject({ code: "external_card_unsigned" });
    server.put("/card.json", await sign(cardOf(server.origin), key, server.keysUrl));
    const given = await add(server, { kind: "jku" });
    expect((await viewOf(given)).cardTrust).toEqual({ kind: "jwksUrl", url: server.keysUrl });
    expect(await openIt(given)).toBe("Partner agent");
    server.put("/stolen.json", { keys: [thief.jwk] });
    server.put("/card.json", await sign(cardOf(server.origin), thief, `${server.origin}/stolen.json`));
    expect(await openIt(given)).toBe("external_card_unsigned");
    server.put("/card.json", await sign(cardOf(server.origin), ended, server.keysUrl));
    expect(await openIt(given)).toBe("external_card_unsigned");
    server.put("/card.json", await sign(cardOf(server.origin), key, server.keysUrl));
    server.put("/keys.json", { keys: [thief.jwk] });
    expect(await openIt(given)).toBe("external_card_unsigned");
    expect(server.seen.filter(({ path }) => path === "/stolen.json")).toEqual([]);
  });

  test("by the keys at an address needs that address to be one that may be called, and the keys to be there", async () => {
    const server = await serve();
    server.put("/card.json", await sign(cardOf(server.origin), newKey("k1")));
    const inner = { kind: "jwksUrl", url: "http://169.254.169.254/keys" } as const;
    await expect(add(server, inner)).rejects.toMatchObject({ code: "outbound_refused" });
    const nowhere = { kind: "jwksUrl", url: `${server.origin}/nothing-there` } as const;
    await expect(add(server, nowhere)).rejects.toMatchObject({ code: "external_card_unavailable" });
    await expect(add(server, { kind: "keys", jwks: { keys: [] } })).rejects.toMatchObject({ code: "invalid_input" });
  });
});

describe("an agent that shows another card to those who authenticate", () => {
  const credential = { kind: "bearer", token: new Secret("let-me-in") } as const;
  const extended = (origin: string): JsonObject => cardOf(origin, { name: "For you" });
  const offering = { capabilities: { streaming: true, extendedAgentCard: true } };

  const rpc = (server: Served, method: string): void => {
    server.answers.set("/rpc", (body) =>
      body.method === method
        ? { body: { jsonrpc: "2.0", id: body.id ?? null, result: extended(server.origin) } }
        : { body: { jsonrpc: "2.0", id: body.id ?? null, error: { code: -32601, message: "no" } } },
    );
  };
  const WAYS: readonly (readonly [string, (server: Served) => JsonObject])[] = [
    [
      "JSON-RPC 1.0",
      (server) => {
        rpc(server, "GetExtendedAgentCard");
        return cardOf(server.origin, offering);
      },
    ],
    [
      "JSON-RPC 0.3",
      (server) => {
        rpc(server, "agent/getAuthenticatedExtendedCard");
        const { supportedInterfaces: _, ...old } = cardOf(server.origin);
        return { ...old, url: `${server.origin}/rpc`, supportsAuthenticatedExtendedCard: true };
      },
    ],
    [
      "HTTP+JSON 1.0",
      (server) => {
        server.put("/rest/a%20b/extendedAgentCard", extended(server.origin));
        const one = { protocolBinding: "HTTP+JSON", protocolVersion: "1.0", tenant: "a b" };
        return cardOf(server.origin, { ...offering, supportedInterfaces: [{ url: `${server.origin}/rest`, ...one }] });
      },
    ],
    [
      "HTTP+JSON 0.3",
      (server) => {
        server.put("/rest/v1/card", extended(server.origin));
        const one = { protocolBinding: "HTTP+JSON", protocolVersion: "0.3" };
        return cardOf(server.origin, {
          ...offering,
          supportedInterfaces: [{ url: `${server.origin}/rest/v1`, ...one }],
        });
      },
    ],
  ];

  test.each(WAYS)(
    "is asked for it by %s with the credential, and it takes the public one's place",
    async (_way, card) => {
      const server = await serve();
      server.put("/card.json", card(server));
      const given = await scene.given(server.cardUrl, { credential });
      expect(await openIt(given)).toBe("For you");
      expect((await viewOf(given)).card.name).toBe("For you");
      const [publicCard, ...others] = [...server.seen].toSorted((a, b) => (a.path < b.path ? -1 : 1));
      expect(publicCard).toEqual({ path: "/card.json", authorization: undefined });
      expect(others.at(-1)?.authorization).toBe("Bearer let-me-in");
    },
  );

  test("gets nothing of the credential into the card when it sends it back", async () => {
    const secret = "let-me-in-for-a-long-time";
    const server = await serve();
    server.put("/card.json", cardOf(server.origin, offering));
    server.answers.set("/rpc", ({ id }) => ({
      body: { jsonrpc: "2.0", id: id ?? null, result: cardOf(server.origin, { name: `You sent Bearer ${secret}` }) },
    }));
    const given = await scene.given(server.cardUrl, { credential: { kind: "bearer", token: new Secret(secret) } });
    expect(await openIt(given)).toMatch(/^You sent /);
    expect(JSON.stringify(await viewOf(given))).not.toContain(secret);
  });

  test("is called by its public card where the other cannot be had, which is noted", async () => {
    const server = await serve();
    server.put("/card.json", cardOf(server.origin, offering));
    server.put("/rpc", { error: "no" }, 403);
    const given = await scene.given(server.cardUrl, { credential });
    expect(await openIt(given)).toBe("Partner agent");
    expect((await viewOf(given)).cardError).toContain("403");
    rpc(server, "something else");
    expect(await openIt(given)).toBe("Partner agent");
  });

  test("is not asked without a credential, and its other card leads no credential elsewhere", async () => {
    const server = await serve();
    server.put("/card.json", cardOf(server.origin, offering));
    rpc(server, "GetExtendedAgentCard");
    expect(await openIt(await scene.given(server.cardUrl))).toBe("Partner agent");
    const thief = cardOf("http://thief.localhost:4999");
    server.answers.set("/rpc", (body) => ({ body: { jsonrpc: "2.0", id: body.id ?? null, result: thief } }));
    expect(await openIt(await scene.given(server.cardUrl, { credential }))).toBe("external_credential_elsewhere");
  });
});
