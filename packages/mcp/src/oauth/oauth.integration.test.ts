import { randomBytes } from "node:crypto";
import { createOperatorPrincipal, type Principal } from "@shaman/access";
import { Secret, systemClock, unwrap } from "@shaman/kernel";
import { createOutbound, type Outbound } from "@shaman/outbound";
import { parseSecretKeys } from "@shaman/secrets";
import {
  protectedBy,
  startMcpServer,
  startOauthServer,
  testDatabase,
  type OauthTestServerOptions,
  type TestDatabase,
} from "@shaman/testkit";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { getMcpAuthorization } from "../get-mcp-authorization.ts";
import { listMcpSources } from "../list-mcp-sources.ts";
import { registerMcpServer } from "../register-mcp-server.ts";
import { replaceMcpAuthorization } from "../replace-mcp-authorization.ts";
import { recordSighting } from "../tool-sighting.ts";
import { accessToken } from "./access-tokens.ts";
import { authorizeClient, beginAuthorization } from "./oauth-flow.ts";

let database: TestDatabase;
let outbound: Outbound;
const keys = parseSecretKeys(`test:${randomBytes(32).toString("base64url")}`);
if (!keys.ok) throw new Error(keys.error);
const secretKeys = keys.value;

beforeAll(async () => {
  database = await testDatabase();
  outbound = createOutbound({ allowLoopback: true, mapLocalhost: true, allowHttp: true });
});
const cleanUp: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const undo of cleanUp.splice(0).toReversed()) await undo();
});
afterAll(async () => {
  await outbound.close();
  await database.close();
});

const given = async (options: OauthTestServerOptions = {}) => {
  const oauth = await startOauthServer(options);
  const server = await startMcpServer({ tools: [], intercept: protectedBy(oauth) });
  cleanUp.push(oauth.close, server.close);
  const { orgId } = await database.givenOrg();
  const deps = { fetch: outbound.fetch, clock: systemClock };
  const manage = { db: database.as("web"), origin: { server: "test" }, secretKeys, checkUrl: outbound.checkUrl };
  const operator = createOperatorPrincipal({ orgId, name: "test" });
  const register = async (state: Parameters<typeof stateInput>[0]) => {
    const input = { name: "shop", url: server.url, auth: stateInput(state) };
    const { serverId } = unwrap(await registerMcpServer(manage, operator, input));
    return { orgId, serverId, name: "shop", origin: new URL(server.url).origin };
  };
  const tokens = { ...deps, db: database.as("internal"), secretKeys };
  return { oauth, server, deps, register, tokens, orgId, manage, operator };
};

type State = Extract<Awaited<ReturnType<typeof authorizeClient>>, { ok: true }>["value"];
const stateInput = (state: State) => ({ kind: "oauth" as const, state });

const signal = () => AbortSignal.timeout(60_000);

/** What the browser does: goes there, and comes back with a code. */
const visit = async (url: string): Promise<URL> => {
  const answer = await outbound.fetch(url, { redirect: "manual" });
  return new URL(answer.headers.get("location") ?? "");
};

/** A person allows the access. */
const consent = async (scene: Pick<Awaited<ReturnType<typeof given>>, "server" | "deps">): Promise<State> => {
  const redirectUrl = "http://127.0.0.1:1/callback";
  const input = { serverUrl: scene.server.url, redirectUrl, state: "s-1" };
  const pending = unwrap(await beginAuthorization(scene.deps, input));
  const back = await visit(pending.url);
  expect(back.searchParams.get("state")).toBe("s-1");
  return unwrap(await pending.finish(back.searchParams.get("code") ?? ""));
};

const authorized = async (options: OauthTestServerOptions = {}) => {
  const scene = await given(options);
  const state = await consent(scene);
  return { ...scene, state, at: await scene.register(state) };
};

test("a person authorizes with a code and PKCE; the tokens are sealed and the server takes them", async () => {
  const { oauth, tokens, at, state, orgId } = await authorized();
  const token = unwrap(await accessToken(tokens, at, { signal: signal() }));
  expect(oauth.isGood(token)).toBe(true);
  expect(oauth.tokenRequests[0]?.get("code_verifier")).toBeTruthy();
  expect(oauth.tokenRequests[0]?.get("resource")).toMatch(/\/mcp$/);
  const rows = await database.inspect("SELECT * FROM mcp_authorization WHERE org_id = $1", [orgId]);
  expect(rows).toHaveLength(1);
  expect(JSON.stringify(rows)).not.toContain(token);
  expect(JSON.stringify(rows)).not.toContain(state.tokens?.refreshToken ?? "");
});

test("a token that the server no longer takes is renewed once, however many ask for it at the same time", async () => {
  const { oauth, tokens, at } = await authorized();
  const refused = unwrap(await accessToken(tokens, at, { signal: signal() }));
  oauth.expireTokens();
  const renewed = await Promise.all(
    Array.from({ length: 8 }, () => accessToken(tokens, at, { refused, signal: signal() }).then(unwrap)),
  );
  expect(new Set(renewed).size).toBe(1);
  expect(oauth.isGood(renewed[0])).toBe(true);
  const refreshes = oauth.tokenRequests.filter((body) => body.get("grant_type") === "refresh_token");
  expect(refreshes).toHaveLength(1);
});

test("a token is renewed before it runs out", async () => {
  const { oauth, tokens, at } = await authorized({ expiresInSeconds: 5 });
  unwrap(await accessToken(tokens, at, { signal: signal() }));
  expect(oauth.tokenRequests.map((body) => body.get("grant_type"))).toEqual(["authorization_code", "refresh_token"]);
});

test("an authorization that was revoked says what to do, is listed as such, and is replaced with all approvals kept", async () => {
  const scene = await authorized();
  const { oauth, tokens, at, orgId, manage, operator, server } = scene;
  const source = { kind: "registered", id: at.serverId, label: "shop" } as const;
  await recordSighting(tokens, { orgId, source, tools: [{ name: "one", definition: {} }], by: { actor: "test" } });
  const refused = unwrap(await accessToken(tokens, at, { signal: signal() }));
  oauth.revoke();
  // The next one may try again at once.
  for (let attempt = 0; attempt < 2; attempt += 1) {
    const result = await accessToken(tokens, at, { refused, signal: signal() });
    expect(result).toMatchObject({ ok: false, error: { code: "mcp_authorization_expired" } });
    expect(result.ok ? "" : result.error.message).toMatch(/run \.\/shaman mcp authorize shop\..*invalid_grant/);
  }
  const listed = async () => unwrap(await listMcpSources(manage, operator)).sources;
  expect(await listed()).toMatchObject([{ authorizationExpiredAt: expect.any(Date), waiting: 0 }]);

  expect(unwrap(await getMcpAuthorization(manage, operator, { name: "shop" }))).toEqual({
    url: server.url,
    grant: "authorization_code",
  });
  unwrap(await replaceMcpAuthorization(manage, operator, { name: "shop", state: await consent(scene) }));
  const token = unwrap(await accessToken(tokens, at, { signal: signal() }));
  expect(token).not.toBe(refused);
  expect(oauth.isGood(token)).toBe(true);
  expect(await listed()).toMatchObject([{ authorizationExpiredAt: null, tools: 1, waiting: 0 }]);
  const audit = await database.inspect("SELECT action FROM audit_log WHERE org_id = $1 ORDER BY id", [orgId]);
  expect(audit.at(-1)).toEqual({ action: "mcpServer:authorize" });
});

test("an authorization server that is away makes no authorization expired", async () => {
  const { oauth, tokens, at, manage, operator } = await authorized();
  const refused = unwrap(await accessToken(tokens, at, { signal: signal() }));
  await oauth.close();
  const result = await accessToken(tokens, at, { refused, signal: signal() });
  expect(result.ok ? "ok" : result.error.code).not.toMatch(/^(ok|mcp_authorization_expired)$/);
  expect(unwrap(await listMcpSources(manage, operator)).sources).toMatchObject([{ authorizationExpiredAt: null }]);
});

test("only who may, and only for the server's own address, replaces an authorization, and of an OAuth server only", async () => {
  const { state, manage, operator, orgId, server } = await authorized();
  const rows = () => database.inspect("SELECT sealed, version FROM mcp_authorization WHERE org_id = $1", [orgId]);
  const before = await rows();
  const codeOf = (result: { readonly ok: boolean; readonly error?: { readonly code: string } }) => result.error?.code;
  const replace = (who: Principal, name: string, origin = state.origin) =>
    replaceMcpAuthorization(manage, who, { name, state: { ...state, origin } }).then(codeOf);
  const nobody: Principal = { ...operator, can: () => false };
  const stranger = createOperatorPrincipal({ orgId: (await database.givenOrg()).orgId, name: "test" });
  unwrap(await registerMcpServer(manage, operator, { name: "plain", url: server.url }));
  expect(await replace(nobody, "shop")).toBe("forbidden");
  expect(codeOf(await getMcpAuthorization(manage, nobody, { name: "shop" }))).toBe("forbidden");
  expect(await replace(stranger, "shop")).toBe("mcp_server_not_found");
  expect(codeOf(await getMcpAuthorization(manage, stranger, { name: "shop" }))).toBe("mcp_server_not_found");
  expect(await replace(operator, "shop", "https://elsewhere.example")).toBe("invalid_input");
  expect(await replace(operator, "plain")).toBe("mcp_server_not_found");
  expect(codeOf(await getMcpAuthorization(manage, operator, { name: "plain" }))).toBe("mcp_server_without_oauth");
  expect(await rows()).toEqual(before);
});

test("a client's credentials give tokens without a person, where they are right", async () => {
  const scene = await given({ clientId: "shaman", clientSecret: "canary-secret" });
  const { oauth, deps, server } = scene;
  const wrong = await authorizeClient(deps, {
    serverUrl: server.url,
    client: { id: "shaman", secret: new Secret("guess") },
  });
  expect(wrong.ok ? "ok" : wrong.error.code).toBe("mcp_oauth_failed");
  const client = { id: "shaman", secret: new Secret("canary-secret") };
  const at = await scene.register(unwrap(await authorizeClient(deps, { serverUrl: server.url, client })));
  const first = unwrap(await accessToken(scene.tokens, at, { signal: signal() }));
  oauth.expireTokens();
  const second = unwrap(await accessToken(scene.tokens, at, { refused: first, signal: signal() }));
  expect(oauth.isGood(second)).toBe(true);
  const known = unwrap(await getMcpAuthorization(scene.manage, scene.operator, { name: "shop" }));
  expect(known).toMatchObject({ grant: "client_credentials", client: { id: "shaman" } });
  expect(known.client?.secret?.reveal()).toBe("canary-secret");
});

test("an authorization is for the address it was made for, and for its own row", async () => {
  const { tokens, at, orgId } = await authorized();
  const moved = await accessToken(tokens, { ...at, origin: "https://elsewhere.example" }, { signal: signal() });
  expect(moved.ok ? "ok" : moved.error.code).toBe("mcp_credential_unusable");
  const other = await authorized();
  await database.inspect(
    "UPDATE mcp_authorization SET sealed = (SELECT sealed FROM mcp_authorization WHERE org_id = $1) WHERE org_id = $2",
    [orgId, other.orgId],
  );
  const copied = await accessToken(other.tokens, other.at, { signal: signal() });
  expect(copied.ok ? "ok" : copied.error.code).toBe("mcp_credential_unusable");
});

test("an authorization server that calls itself another is not believed", async () => {
  const { deps, server } = await given({ claimedIssuer: "https://accounts.example.com" });
  const begun = await beginAuthorization(deps, {
    serverUrl: server.url,
    redirectUrl: "http://127.0.0.1:1/callback",
    state: "s",
  });
  expect(begun.ok ? "ok" : begun.error.message).toContain("calls itself https://accounts.example.com");
});

test("authorization servers at addresses that must not be reached are not asked", async () => {
  const intercept = protectedBy({ issuer: "http://169.254.169.254", isGood: () => false });
  const server = await startMcpServer({ tools: [], intercept });
  cleanUp.push(server.close);
  const begun = await beginAuthorization(
    { fetch: outbound.fetch, clock: systemClock },
    { serverUrl: server.url, redirectUrl: "http://127.0.0.1:1/callback", state: "s" },
  );
  expect(begun.ok ? "ok" : begun.error.code).toMatch(/^(outbound_refused|mcp_oauth_failed)$/);
});
