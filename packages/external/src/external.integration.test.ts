import { randomBytes } from "node:crypto";
import { createServer, type IncomingMessage, type RequestListener } from "node:http";
import { createOperatorPrincipal } from "@shaman/access";
import { Secret, systemClock, unwrap, type JsonObject, type Result } from "@shaman/kernel";
import { createOutbound, type Outbound } from "@shaman/outbound";
import { open, parseSecretKeys, secretIdentity } from "@shaman/secrets";
import { testDatabase, type TestDatabase } from "@shaman/testkit";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";

import { addExternalAgent, type AddExternalAgentInput } from "./add-external-agent.ts";
import { createExternalDirectory } from "./external-directory.ts";
import { createHealthRecorder } from "./health-recorder.ts";
import { getExternalAgent, listExternalAgents } from "./list-external-agents.ts";
import { findExternalTarget } from "./load-external-agent.ts";
import { removeExternalAgent } from "./remove-external-agent.ts";
import { createTokens } from "./tokens.ts";

const keys = parseSecretKeys(`test:${randomBytes(32).toString("base64url")}`);
if (!keys.ok) throw new Error(keys.error);
const secretKeys = keys.value;

let database: TestDatabase;
let outbound: Outbound;
let production: Outbound;
beforeAll(async () => {
  database = await testDatabase();
  outbound = createOutbound({ allowLoopback: true, mapLocalhost: true, allowHttp: true });
  production = createOutbound({ allowLoopback: false, mapLocalhost: false, resolve: async () => ["93.184.216.34"] });
});
afterAll(async () => {
  await Promise.all([outbound.close(), production.close()]);
  await database.close();
});

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

const serve = async (listener: RequestListener) => {
  const seen: IncomingMessage[] = [];
  const server = createServer((incoming, outgoing) => {
    seen.push(incoming);
    listener(incoming, outgoing);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const close = () =>
    new Promise((resolve) => {
      server.close(resolve);
      server.closeAllConnections();
    });
  closers.push(close);
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return { origin: `http://127.0.0.1:${address.port}`, seen, close };
};

const cardOf = (url: string, more: JsonObject = {}): JsonObject => ({
  name: "Partner agent",
  description: "Works for us",
  version: "1.0.0",
  supportedInterfaces: [{ url, protocolBinding: "JSONRPC", protocolVersion: "1.0" }],
  capabilities: { streaming: true },
  defaultInputModes: ["text/plain"],
  defaultOutputModes: ["text/plain"],
  skills: [],
  ...more,
});

/** A server whose card can be changed while it runs. */
const serveCard = async (first: (origin: string) => JsonObject = (origin) => cardOf(`${origin}/rpc`)) => {
  const state = { card: {} as JsonObject, headers: {} as Record<string, string>, status: 200 };
  const server = await serve((incoming, outgoing) => {
    if (incoming.url !== "/card.json") return void outgoing.writeHead(404).end();
    const etag = state.headers["etag"];
    if (etag !== undefined && incoming.headers["if-none-match"] === etag) {
      return void outgoing.writeHead(304, state.headers).end();
    }
    outgoing.writeHead(state.status, { "content-type": "application/json", ...state.headers });
    outgoing.end(JSON.stringify(state.card));
  });
  state.card = first(server.origin);
  return { ...server, state, cardUrl: `${server.origin}/card.json` };
};

const given = async () => {
  const { orgId } = await database.givenOrg();
  const web = { db: database.as("web"), clock: systemClock, origin: { server: "test" }, secretKeys, outbound };
  const operator = createOperatorPrincipal({ orgId, name: "test" });
  const add = (url: string, more: Partial<AddExternalAgentInput> = {}) =>
    addExternalAgent(web, operator, { name: "Partner", url, ...more });
  return { orgId, web, operator, add };
};

const codeOf = (result: Result<unknown>): string => (result.ok ? "ok" : result.error.code);
const API_KEY = { securitySchemes: { key: { apiKeySecurityScheme: { location: "header", name: "X-Key" } } } };

type SecretRow = { id: string; origin: string; sealed: string };
const secretsOf = (orgId: string) =>
  database.inspect<SecretRow>("SELECT id, origin, sealed FROM secret WHERE org_id = $1", [orgId]);

describe("registering an outside agent", () => {
  test("seals its credential, binds it to the interface's origin, audits it, and shows it nowhere", async () => {
    const elsewhere = "http://partner.localhost:4999";
    const { cardUrl } = await serveCard(() => cardOf(`${elsewhere}/rpc`, API_KEY));
    const { orgId, web, operator, add } = await given();
    const added = unwrap(await add(cardUrl, { credential: { kind: "apiKey", key: new Secret("key-of-partner") } }));
    expect(added).toMatchObject({ name: "Partner", title: "Partner agent", credentialOrigin: elsewhere });
    const [secret] = await secretsOf(orgId);
    expect(secret?.origin).toBe(elsewhere);
    const identity = secretIdentity({ orgId, secretId: secret?.id ?? "" });
    expect(unwrap(open(secretKeys, { sealed: secret?.sealed ?? "", identity })).reveal()).toBe("key-of-partner");
    const view = unwrap(await getExternalAgent(web, operator, "Partner"));
    expect(view).toMatchObject({ credential: { kind: "apiKey", header: "x-key" }, credentialOrigin: elsewhere });
    const audit = await database.inspect("SELECT * FROM audit_log WHERE org_id = $1", [orgId]);
    expect(audit).toMatchObject([{ action: "externalAgent:create", resource: "/externalAgents/Partner/" }]);
    expect(JSON.stringify([added, view, audit, secret])).not.toContain("key-of-partner");
  });

  test("needs the permission, and a name and a card that are free", async () => {
    const { cardUrl } = await serveCard();
    const { orgId, web, operator, add } = await given();
    const nobody = { ...operator, can: () => false };
    expect(codeOf(await addExternalAgent(web, nobody, { name: "Partner", url: cardUrl }))).toBe("forbidden");
    expect(codeOf(await listExternalAgents(web, nobody))).toBe("forbidden");
    expect(codeOf(await removeExternalAgent(web, nobody, "Partner"))).toBe("forbidden");
    unwrap(await add(cardUrl));
    expect(codeOf(await add(cardUrl))).toBe("external_agent_exists");
    expect(codeOf(await add(cardUrl, { name: "Other" }))).toBe("external_agent_exists");
    const rows = await database.inspect("SELECT name FROM external_agent WHERE org_id = $1", [orgId]);
    expect(rows).toEqual([{ name: "Partner" }]);
  });

  test("replaces another's credential and card under the same id, and removing it takes the credential along", async () => {
    const { cardUrl } = await serveCard();
    const { orgId, web, operator, add } = await given();
    const token = (text: string) => ({ credential: { kind: "bearer", token: new Secret(text) } }) as const;
    const { id } = unwrap(await add(cardUrl, token("first")));
    const [first] = await secretsOf(orgId);
    expect(unwrap(await add(cardUrl, { ...token("second"), replace: true })).id).toBe(id);
    const rest = await secretsOf(orgId);
    expect(rest).toHaveLength(1);
    expect(rest[0]?.id).not.toBe(first?.id);
    unwrap(await removeExternalAgent(web, operator, "Partner"));
    expect(await secretsOf(orgId)).toEqual([]);
    expect(codeOf(await removeExternalAgent(web, operator, "Partner"))).toBe("external_agent_not_found");
  });

  test("is refused for a card with an interface at an address that must not be called", async () => {
    for (const url of ["http://10.0.0.1/rpc", "https://169.254.169.254/rpc", "https://127.0.0.1/rpc", "ftp://x/rpc"]) {
      const { cardUrl } = await serveCard((origin) =>
        cardOf("https://public.example.com/rpc", {
          supportedInterfaces: [
            { url: "https://public.example.com/rpc", protocolBinding: "JSONRPC", protocolVersion: "1.0" },
            { url, protocolBinding: "HTTP+JSON", protocolVersion: "1.0" },
            { url: origin, protocolBinding: "GRPC", protocolVersion: "1.0" },
          ],
        }),
      );
      const { orgId, web, operator } = await given();
      // The card is on this machine here, so that only what it says is judged as in production.
      const deps = { ...web, outbound: { fetchWith: outbound.fetchWith, checkUrl: production.checkUrl } };
      expect(codeOf(await addExternalAgent(deps, operator, { name: "Partner", url: cardUrl })), url).toBe(
        "outbound_refused",
      );
      expect(await database.inspect("SELECT 1 FROM external_agent WHERE org_id = $1", [orgId])).toEqual([]);
    }
    const { web, operator } = await given();
    const closed = { ...web, outbound: production };
    const url = "http://127.0.0.1:1/card.json";
    expect(codeOf(await addExternalAgent(closed, operator, { name: "Partner", url }))).toBe("outbound_refused");
  });

  test("finds the card below the address, and says what is wrong with one that is none", async () => {
    const page = await serve((incoming, outgoing) => {
      if (incoming.url === "/agents/x/.well-known/agent-card.json") {
        return void outgoing.end(JSON.stringify(cardOf(`${page.origin}/rpc`)));
      }
      if (incoming.url === "/empty.json") return void outgoing.end("{}");
      if (incoming.url === "/huge.json") return void outgoing.end(JSON.stringify({ pad: "x".repeat(600_000) }));
      if (incoming.url === "/grpc.json") {
        const supportedInterfaces = [{ url: "https://x.example.com", protocolBinding: "GRPC", protocolVersion: "1.0" }];
        return void outgoing.end(JSON.stringify(cardOf("", { supportedInterfaces })));
      }
      outgoing.writeHead(200, { "content-type": "text/html" }).end("<html>");
    });
    const { add } = await given();
    expect(unwrap(await add(`${page.origin}/agents/x`)).cardUrl).toBe(
      `${page.origin}/agents/x/.well-known/agent-card.json`,
    );
    expect(codeOf(await add(`${page.origin}/empty.json`))).toBe("external_card_invalid");
    expect(codeOf(await add(`${page.origin}/huge.json`))).toBe("outbound_too_large");
    expect(codeOf(await add(`${page.origin}/grpc.json`))).toBe("external_interface_unsupported");
    expect(codeOf(await add(`${page.origin}/other`))).toBe("external_card_unavailable");
  });

  test("takes no header for an API key that means something else, and none that the card does not name", async () => {
    const scheme = (location: string, name: string) => ({
      securitySchemes: { key: { apiKeySecurityScheme: { location, name } } },
    });
    const cases = [
      ["header", "Host"],
      ["header", "A2A-Version"],
      ["header", "x\r\ny"],
      ["query", "key"],
    ] as const;
    for (const [location, name] of cases) {
      const { cardUrl } = await serveCard((origin) => cardOf(`${origin}/rpc`, scheme(location, name)));
      const { add } = await given();
      const credential = { kind: "apiKey", key: new Secret("k") } as const;
      expect(codeOf(await add(cardUrl, { credential })), name).toBe("invalid_input");
      const named = unwrap(await add(cardUrl, { credential: { ...credential, header: "X-Mine" } }));
      expect(named.credentialOrigin).toBe(new URL(cardUrl).origin);
    }
  });
});

describe("a registered agent's card", () => {
  const openIt = async (orgId: string, nowMs: () => number) => {
    const directory = createExternalDirectory({
      db: database.as("internal"),
      clock: { now: nowMs },
      secretKeys,
      outbound,
    });
    const target = await findExternalTarget(database.as("internal"), orgId, "Partner");
    if (target === undefined) throw new Error("not registered");
    return () => directory.open({ orgId, target, signal: new AbortController().signal });
  };

  test("is asked for again only when its time is over, and then conditionally", async () => {
    const server = await serveCard();
    server.state.headers = { etag: '"v1"', "cache-control": "max-age=60" };
    const { orgId, add } = await given();
    unwrap(await add(server.cardUrl));
    let nowMs = Date.now();
    const openCard = await openIt(orgId, () => nowMs);
    unwrap(await openCard());
    expect(server.seen).toHaveLength(1);
    nowMs += 61_000;
    unwrap(await openCard());
    expect(server.seen).toHaveLength(2);
    expect(server.seen[1]?.headers["if-none-match"]).toBe('"v1"');
    unwrap(await openCard());
    expect(server.seen).toHaveLength(2);
    server.state.headers = { etag: '"v2"', "cache-control": "no-cache" };
    server.state.card = cardOf(`${server.origin}/rpc`, { name: "Renamed" });
    nowMs += 61_000;
    expect(unwrap(await openCard()).card.name).toBe("Renamed");
    unwrap(await openCard());
    expect(server.seen).toHaveLength(4);
  });

  test("is used on for a day while its server is away, unless it forbade that", async () => {
    const server = await serveCard();
    server.state.headers = { "cache-control": "max-age=60" };
    const { orgId, web, operator, add } = await given();
    unwrap(await add(server.cardUrl));
    server.state.status = 503;
    let nowMs = Date.now() + 61_000;
    const openCard = await openIt(orgId, () => nowMs);
    expect(unwrap(await openCard()).card.name).toBe("Partner agent");
    expect(unwrap(await getExternalAgent(web, operator, "Partner")).cardError).toMatch(/answered 503/);
    nowMs += 25 * 60 * 60_000;
    expect(codeOf(await openCard())).toBe("external_card_unavailable");

    const strict = await serveCard();
    strict.state.headers = { "cache-control": "max-age=60, must-revalidate" };
    const other = await given();
    unwrap(await other.add(strict.cardUrl));
    await strict.close();
    const openStrict = await openIt(other.orgId, () => Date.now() + 61_000);
    expect(codeOf(await openStrict())).toBe("outbound_failed");
  });

  test("that moves its interface to another origin does not take the credential along", async () => {
    const server = await serveCard((origin) => cardOf(`${origin}/rpc`, API_KEY));
    server.state.headers = { "cache-control": "no-cache" };
    const { orgId, add } = await given();
    unwrap(await add(server.cardUrl, { credential: { kind: "apiKey", key: new Secret("k") } }));
    const openCard = await openIt(orgId, Date.now);
    expect(unwrap(await unwrap(await openCard()).credentialHeaders())).toEqual({ "x-key": "k" });
    server.state.card = cardOf("http://thief.localhost:4999/rpc", API_KEY);
    const refused = await openCard();
    expect(codeOf(refused)).toBe("external_credential_elsewhere");
    // Another path, and another header in the card, change nothing of what was registered.
    server.state.card = cardOf(`${server.origin}/moved`, {
      securitySchemes: { key: { apiKeySecurityScheme: { location: "header", name: "Cookie" } } },
    });
    const moved = unwrap(await openCard());
    expect(moved.interface.url).toBe(`${server.origin}/moved`);
    expect(unwrap(await moved.credentialHeaders())).toEqual({ "x-key": "k" });
  });

  test("is out of another organization's reach, by id and by name", async () => {
    const server = await serveCard();
    const [mine, other] = [await given(), await given()];
    const { id } = unwrap(await mine.add(server.cardUrl));
    const db = database.as("internal");
    expect(await findExternalTarget(db, other.orgId, "Partner")).toBeUndefined();
    const directory = createExternalDirectory({ db, clock: systemClock, secretKeys, outbound });
    const target = { kind: "registered", externalAgentId: id, name: "Partner" } as const;
    const signal = new AbortController().signal;
    expect(codeOf(await directory.open({ orgId: other.orgId, target, signal }))).toBe("external_agent_not_found");
  });

  test("that an alias names by its address is the registered agent with its credential, else one without", async () => {
    const server = await serveCard();
    const { orgId, add } = await given();
    const { id } = unwrap(await add(server.cardUrl, { credential: { kind: "bearer", token: new Secret("t") } }));
    const directory = createExternalDirectory({
      db: database.as("internal"),
      clock: systemClock,
      secretKeys,
      outbound,
    });
    const signal = new AbortController().signal;
    const target = { kind: "url", url: server.cardUrl, name: "Alias" } as const;
    const found = unwrap(await directory.open({ orgId, target, signal }));
    expect(found.id).toBe(id);
    expect(unwrap(await found.credentialHeaders())).toEqual({ authorization: "Bearer t" });
    const { orgId: otherOrg } = await given();
    const stranger = unwrap(await directory.open({ orgId: otherOrg, target, signal }));
    expect(stranger.id).toBeUndefined();
    expect(unwrap(await stranger.credentialHeaders())).toEqual({});
  });
});

describe("client credentials", () => {
  /** A token endpoint that numbers its tokens. */
  const serveTokens = async (answer: (n: number) => { readonly status?: number; readonly body: JsonObject }) => {
    const bodies: string[] = [];
    const server = await serve((incoming, outgoing) => {
      let body = "";
      incoming.on("data", (chunk) => (body += String(chunk)));
      incoming.on("end", () => {
        bodies.push(body);
        const { status = 200, body: json } = answer(bodies.length);
        outgoing.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(json));
      });
    });
    return { ...server, bodies, tokenUrl: `${server.origin}/token` };
  };
  const numbered = (n: number) => ({ body: { access_token: `t-${n}`, token_type: "bearer", expires_in: 100 } });

  const requestOf = (tokenUrl: string, authentication: "basic" | "body" = "basic") => ({
    key: "k",
    credential: { kind: "clientCredentials", clientId: "a:b", tokenUrl, scopes: ["x", "y"], authentication } as const,
    secret: new Secret("s&s"),
  });

  test("become a token that is kept until shortly before its end, got once for many, and again when it was refused", async () => {
    const server = await serveTokens(numbered);
    let nowMs = 0;
    const tokens = createTokens({ outbound, clock: { now: () => nowMs } });
    const request = requestOf(server.tokenUrl);
    const many = await Promise.all(Array.from({ length: 20 }, () => tokens.get(request)));
    expect(new Set(many.map((token) => token.reveal()))).toEqual(new Set(["t-1"]));
    expect(server.seen).toHaveLength(1);
    nowMs = 89_000;
    expect((await tokens.get(request)).reveal()).toBe("t-1");
    nowMs = 91_000;
    const second = await tokens.get(request);
    expect(second.reveal()).toBe("t-2");
    tokens.drop("k", second);
    expect((await tokens.get(request)).reveal()).toBe("t-3");
    tokens.drop("k", second);
    expect((await tokens.get(request)).reveal()).toBe("t-3");
  });

  test("stand in the header or in the body, as registered, and are form-encoded", async () => {
    const server = await serveTokens(numbered);
    const clock = { now: () => 0 };
    await createTokens({ outbound, clock }).get(requestOf(server.tokenUrl));
    expect(server.seen[0]?.headers.authorization).toBe(`Basic ${Buffer.from("a%3Ab:s%26s").toString("base64")}`);
    expect(server.bodies[0]).toBe("grant_type=client_credentials&scope=x+y");
    await createTokens({ outbound, clock }).get(requestOf(server.tokenUrl, "body"));
    expect(server.seen[1]?.headers.authorization).toBeUndefined();
    expect(server.bodies[1]).toBe("grant_type=client_credentials&scope=x+y&client_id=a%3Ab&client_secret=s%26s");
  });

  test("that are refused, redirected or answered oddly give an error without the secret", async () => {
    const other = await serveTokens(numbered);
    const redirecting = await serve((_incoming, outgoing) => {
      outgoing.writeHead(307, { location: other.tokenUrl }).end();
    });
    const refusing = await serveTokens(() => ({ status: 401, body: { error: "invalid_client" } }));
    const odd = await serveTokens(() => ({ body: { access_token: "a b", token_type: "bearer" } }));
    const mac = await serveTokens(() => ({ body: { access_token: "a", token_type: "mac" } }));
    const tokens = createTokens({ outbound, clock: { now: () => 0 } });
    const errorOf = (url: string) => tokens.get(requestOf(url)).then(String, String);
    expect(await errorOf(refusing.tokenUrl)).toMatch(/invalid_client/);
    expect(await errorOf(odd.tokenUrl)).toMatch(/not that of a token endpoint/);
    expect(await errorOf(mac.tokenUrl)).toMatch(/not of type Bearer/);
    expect(await errorOf(`${redirecting.origin}/token`)).toMatch(/redirect/);
    expect(other.seen).toEqual([]);
    for (const url of [refusing.tokenUrl, odd.tokenUrl]) expect(await errorOf(url)).not.toContain("s&s");
  });

  test("take token URL and scopes from the card, and the client's secret is bound to the token URL's origin", async () => {
    const server = await serveCard((origin) =>
      cardOf(`${origin}/rpc`, {
        securitySchemes: {
          oauth: {
            oauth2SecurityScheme: {
              flows: {
                clientCredentials: { tokenUrl: "http://login.localhost:4999/token", scopes: { a: "A", b: "B" } },
              },
            },
          },
        },
        securityRequirements: [{ schemes: { oauth: { list: ["a"] } } }],
      }),
    );
    const { orgId, web, operator, add } = await given();
    const credential = { kind: "clientCredentials", clientId: "c", clientSecret: new Secret("s") } as const;
    unwrap(await add(server.cardUrl, { credential }));
    expect(await secretsOf(orgId)).toMatchObject([{ origin: "http://login.localhost:4999" }]);
    expect(unwrap(await getExternalAgent(web, operator, "Partner"))).toMatchObject({
      credential: { kind: "clientCredentials", tokenUrl: "http://login.localhost:4999/token", scopes: ["a"] },
      credentialOrigin: server.origin,
    });
  });
});

describe("figures of an outside agent", () => {
  test("are added up over processes and calls, touch no row before they are written, and go with the agent", async () => {
    const server = await serveCard();
    const { orgId, web, operator, add } = await given();
    const { id: externalAgentId } = unwrap(await add(server.cardUrl));
    const db = database.as("internal");
    const recorders = [1, 2].map(() =>
      createHealthRecorder({
        db,
        clock: systemClock,
        onError: (error) => {
          throw error;
        },
      }),
    );
    for (const recorder of recorders) {
      recorder.record({ orgId, externalAgentId, latencyMs: 100 });
      recorder.record({ orgId, externalAgentId, latencyMs: 300, error: "external_busy" });
      recorder.record({ orgId, externalAgentId: "ext_gone", latencyMs: 1 });
    }
    expect(unwrap(await getExternalAgent(web, operator, "Partner")).health.calls).toBe(0);
    await Promise.all(recorders.map((recorder) => recorder.close()));
    const { health } = unwrap(await getExternalAgent(web, operator, "Partner"));
    expect(health).toMatchObject({ calls: 4, errors: 2, averageLatencyMs: 200, maxLatencyMs: 300 });
    expect(health).toMatchObject({ lastError: "external_busy", lastOkAt: expect.any(Date) });
    unwrap(await removeExternalAgent(web, operator, externalAgentId));
    expect(await database.inspect("SELECT 1 FROM external_agent_health WHERE org_id = $1", [orgId])).toEqual([]);
  });

  test("that cannot be written are kept for the next time", async () => {
    const server = await serveCard();
    const { orgId, web, operator, add } = await given();
    const { id: externalAgentId } = unwrap(await add(server.cardUrl));
    const db = database.as("internal");
    let away = true;
    const failing = {
      ...db,
      withOrg: ((org, work) => (away ? Promise.reject(new Error("away")) : db.withOrg(org, work))) as typeof db.withOrg,
    };
    const errors: unknown[] = [];
    const recorder = createHealthRecorder({ db: failing, clock: systemClock, onError: (error) => errors.push(error) });
    recorder.record({ orgId, externalAgentId, latencyMs: 5 });
    await recorder.flush();
    away = false;
    recorder.record({ orgId, externalAgentId, latencyMs: 5 });
    await recorder.close();
    expect(errors).toHaveLength(1);
    expect(unwrap(await getExternalAgent(web, operator, "Partner")).health.calls).toBe(2);
  });
});
