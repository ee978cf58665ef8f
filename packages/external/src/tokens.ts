import { AppError, Secret, type Clock } from "@shaman/kernel";
import type { Outbound } from "@shaman/outbound";
import { LRUCache } from "lru-cache";
import { z } from "zod";

import type { StoredCredential } from "./credential.ts";

type ClientCredentials = Extract<StoredCredential, { kind: "clientCredentials" }>;

export type TokenRequest = {
  /** Names the credential; another secret must have another key. */
  readonly key: string;
  readonly credential: ClientCredentials;
  readonly secret: Secret;
};

/** Access tokens of the client credentials grant (RFC 6749 §4.4), kept in memory until shortly before they expire. */
export type Tokens = {
  /** Errors (thrown): `external_token_refused`, `external_token_unavailable`, `outbound_*`. */
  readonly get: (request: TokenRequest) => Promise<Secret>;
  /** Forgets a token that the agent did not accept, unless it was replaced meanwhile. */
  readonly drop: (key: string, token: Secret) => void;
};

const LIMITS = { timeoutMs: 10_000, maxBytes: 64 * 1024, maxRedirects: 0 };
const MAX_TOKENS = 5_000;
/** Of a token that does not say how long it lives. */
const DEFAULT_SECONDS = 300;
const MAX_SECONDS = 24 * 60 * 60;
const EARLY_MS = 30_000;
const EARLY_SHARE = 0.1;

const answer = z.object({
  access_token: z.string().regex(/^[\x21-\x7e]{1,16384}$/),
  token_type: z.string(),
  expires_in: z.coerce.number().positive().optional().catch(undefined),
});
const refusal = z.object({ error: z.string().regex(/^[\x20-\x7e]{1,100}$/) });

const unavailable = (host: string, why: string): AppError =>
  new AppError({
    code: "external_token_unavailable",
    kind: "operational",
    message: `The token endpoint at ${host} gave no token: ${why}.`,
  });

const refused = (host: string, why: string): AppError =>
  new AppError({
    code: "external_token_refused",
    kind: "user",
    message: `The token endpoint at ${host} refused the client: ${why}. Register the credential again.`,
  });

/** As RFC 6749 §2.3.1 wants it: form-encoded before they are joined. */
const formEncoded = (text: string): string => new URLSearchParams({ x: text }).toString().slice(2);

const requestOf = ({ credential, secret }: TokenRequest): { readonly headers: Headers; readonly body: string } => {
  const form = new URLSearchParams({ grant_type: "client_credentials" });
  if (credential.scopes.length > 0) form.set("scope", credential.scopes.join(" "));
  const headers = new Headers({
    "content-type": "application/x-www-form-urlencoded",
    accept: "application/json",
  });
  if (credential.authentication === "basic") {
    const pair = `${formEncoded(credential.clientId)}:${formEncoded(secret.reveal())}`;
    headers.set("authorization", `Basic ${Buffer.from(pair).toString("base64")}`);
  } else {
    form.set("client_id", credential.clientId);
    form.set("client_secret", secret.reveal());
  }
  return { headers, body: form.toString() };
};

const jsonOf = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};

/** RFC 6749 §5.2. Anything else that is said in their place may be our own secret, sent back. */
const CODES: ReadonlySet<string> = new Set([
  "invalid_request",
  "invalid_client",
  "invalid_grant",
  "unauthorized_client",
  "unsupported_grant_type",
  "invalid_scope",
]);

type Token = { readonly token: Secret; readonly seconds: number };

const fetchToken = async (outbound: Pick<Outbound, "fetchWith">, request: TokenRequest): Promise<Token> => {
  const { tokenUrl } = request.credential;
  const { host } = new URL(tokenUrl);
  // A redirect would have to carry the client's secret along.
  const response = await outbound.fetchWith(LIMITS)(tokenUrl, {
    method: "POST",
    ...requestOf(request),
    redirect: "error",
  });
  const body = jsonOf(await response.text());
  if (response.status >= 500 || response.status === 429) throw unavailable(host, `it answered ${response.status}`);
  if (response.status !== 200) {
    const said = refusal.safeParse(body);
    throw refused(
      host,
      said.success && CODES.has(said.data.error) ? said.data.error : `it answered ${response.status}`,
    );
  }
  const parsed = answer.safeParse(body);
  if (!parsed.success) throw unavailable(host, "its answer is not that of a token endpoint");
  const { access_token: token, token_type: type, expires_in: seconds } = parsed.data;
  if (type.toLowerCase() !== "bearer") throw unavailable(host, "the token is not of type Bearer");
  return { token: new Secret(token), seconds: Math.min(seconds ?? DEFAULT_SECONDS, MAX_SECONDS) };
};

export const createTokens = (deps: {
  readonly outbound: Pick<Outbound, "fetchWith">;
  readonly clock: Clock;
}): Tokens => {
  const known = new LRUCache<string, { readonly token: Secret; readonly untilMs: number }>({ max: MAX_TOKENS });
  const asking = new Map<string, Promise<Secret>>();

  const ask = async (request: TokenRequest): Promise<Secret> => {
    const { token, seconds } = await fetchToken(deps.outbound, request);
    const livesMs = seconds * 1_000;
    const untilMs = deps.clock.now() + livesMs - Math.min(EARLY_MS, livesMs * EARLY_SHARE);
    known.set(request.key, { token, untilMs });
    return token;
  };

  return {
    get: (request) => {
      const entry = known.get(request.key);
      if (entry !== undefined && deps.clock.now() < entry.untilMs) return Promise.resolve(entry.token);
      // Several calls at once ask once, so that none of them may stop it; its own limit does.
      const under = asking.get(request.key);
      if (under !== undefined) return under;
      const asked = ask(request).finally(() => asking.delete(request.key));
      asking.set(request.key, asked);
      return asked;
    },
    drop: (key, token) => {
      if (known.get(key)?.token === token) known.delete(key);
    },
  };
};
