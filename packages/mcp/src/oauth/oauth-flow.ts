import { ClientCredentialsProvider } from "@modelcontextprotocol/sdk/client/auth-extensions.js";
import {
  discoverOAuthServerInfo,
  exchangeAuthorization,
  fetchToken,
  refreshAuthorization,
  registerClient,
  startAuthorization,
} from "@modelcontextprotocol/sdk/client/auth.js";
import { OAuthError } from "@modelcontextprotocol/sdk/server/auth/errors.js";
import { checkResourceAllowed } from "@modelcontextprotocol/sdk/shared/auth-utils.js";
import type { OAuthTokens } from "@modelcontextprotocol/sdk/shared/auth.js";
import { AppError, err, ok, type Clock, type Result, type Secret } from "@shaman/kernel";
import { conceal, type OutboundFetch } from "@shaman/outbound";
import { oauthState, type OauthState } from "./oauth-state.ts";

/** `fetch` is outbound's: every address here is named by the server or by a tenant. */
export type OauthDeps = { readonly fetch: OutboundFetch; readonly clock: Clock };

export type OauthClient = { readonly id: string; readonly secret?: Secret };

const failed = (message: string, cause?: unknown): AppError =>
  new AppError({ code: "mcp_oauth_failed", kind: "user", message, ...(cause !== undefined && { cause }) });

const SECRET_FIELDS = ["client_secret", "refresh_token", "code", "code_verifier"];

/** The secrets that a request to an authorization server holds, as text and as they stand in a form. */
const secretsIn = (init: RequestInit | undefined): readonly string[] => {
  const form = new URLSearchParams(init?.body instanceof URLSearchParams ? init.body : "");
  const authorization = new Headers(init?.headers).get("authorization") ?? "";
  const [, password = ""] = Buffer.from(authorization.replace(/^Basic /i, ""), "base64")
    .toString()
    .split(":");
  const texts = [password, ...SECRET_FIELDS.flatMap((field) => form.getAll(field))];
  return [authorization, ...texts.flatMap((text) => [text, encodeURIComponent(text)])];
};

/** What a server says to a refusal becomes part of errors, so it must not hold the secrets that it was sent. */
const careful =
  (fetch: OutboundFetch): OutboundFetch =>
  async (url, init) => {
    const answer = await fetch(url, init);
    return answer.ok ? answer : conceal(answer, secretsIn(init));
  };

/** The authorization server's own words, shortened; what is no error of its goes on as it is. */
const refused = (what: string, thrown: unknown): Result<never> => {
  if (thrown instanceof AppError) return err(thrown);
  if (!(thrown instanceof Error)) throw thrown;
  const detail = thrown instanceof OAuthError ? `${thrown.errorCode}: ${thrown.message}` : thrown.message;
  return err(failed(`${what}: ${detail.slice(0, 300)}`, thrown));
};

const sameIssuer = (one: string, other: string): boolean => one.replace(/\/$/, "") === other.replace(/\/$/, "");

type Discovered = Pick<OauthState, "origin" | "issuer" | "metadata" | "resource">;

/** Finds the authorization server of an MCP server (RFC 9728, RFC 8414). */
const discover = async (deps: OauthDeps, serverUrl: string): Promise<Result<Discovered>> => {
  try {
    const info = await discoverOAuthServerInfo(serverUrl, { fetchFn: deps.fetch });
    const metadata = info.authorizationServerMetadata;
    if (metadata === undefined) {
      return err(failed("The server names no authorization server that answers. Does it use OAuth at all?"));
    }
    // RFC 8414, section 3.3: else one authorization server could speak for another.
    if (!sameIssuer(metadata.issuer, info.authorizationServerUrl)) {
      return err(failed(`The authorization server ${info.authorizationServerUrl} calls itself ${metadata.issuer}.`));
    }
    const resource = info.resourceMetadata?.resource;
    const mayAsk =
      resource === undefined || checkResourceAllowed({ requestedResource: serverUrl, configuredResource: resource });
    if (!mayAsk) return err(failed(`The server says that its tokens are for another resource, ${resource}.`));
    return ok({
      origin: new URL(serverUrl).origin,
      issuer: info.authorizationServerUrl,
      metadata,
      ...(resource !== undefined && { resource }),
    });
  } catch (thrown) {
    return refused("The authorization server could not be found", thrown);
  }
};

const tokensOf = (deps: OauthDeps, tokens: OAuthTokens, before?: OauthState["tokens"]): OauthState["tokens"] => {
  // A server that renews without a new refresh token means that the old one stays good (RFC 6749, section 6).
  const refreshToken = tokens.refresh_token ?? before?.refreshToken;
  return {
    accessToken: tokens.access_token,
    ...(refreshToken !== undefined && { refreshToken }),
    ...(tokens.expires_in !== undefined && { expiresAt: deps.clock.now() + tokens.expires_in * 1_000 }),
  };
};

const clientOf = (client: OauthClient): OauthState["client"] => ({
  client_id: client.id,
  ...(client.secret !== undefined && { client_secret: client.secret.reveal() }),
});

/** An authorization that waits for a person in a browser. Keep it in memory only. */
export type PendingAuthorization = {
  /** Where to send the person. */
  readonly url: string;
  readonly finish: (code: string) => Promise<Result<OauthState>>;
};

export type BeginAuthorizationInput = {
  readonly serverUrl: string;
  readonly redirectUrl: string;
  /** Random; what comes back with the person must carry the same. */
  readonly state: string;
  /** Absent: Shaman registers itself (RFC 7591). */
  readonly client?: OauthClient;
  readonly scope?: string;
};

const clientInformation = (deps: OauthDeps, found: Discovered, input: BeginAuthorizationInput) => {
  if (input.client !== undefined) return Promise.resolve(clientOf(input.client));
  const clientMetadata = {
    client_name: "Shaman",
    redirect_uris: [input.redirectUrl],
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
  };
  return registerClient(found.issuer, { metadata: found.metadata, clientMetadata, fetchFn: careful(deps.fetch) });
};

/** Begins an authorization code grant with PKCE. Error: `mcp_oauth_failed`, and outbound's. */
export const beginAuthorization = async (
  deps: OauthDeps,
  input: BeginAuthorizationInput,
): Promise<Result<PendingAuthorization>> => {
  const found = await discover(deps, input.serverUrl);
  if (!found.ok) return found;
  const { issuer, metadata, resource } = found.value;
  const { redirectUrl } = input;
  const scope = input.scope ?? metadata.scopes_supported?.join(" ");
  const forResource = resource === undefined ? {} : { resource };
  try {
    const client = await clientInformation(deps, found.value, input);
    const { authorizationUrl, codeVerifier } = await startAuthorization(issuer, {
      metadata,
      clientInformation: client,
      redirectUrl,
      state: input.state,
      ...(scope !== undefined && { scope }),
      ...forResource,
    });
    const finish = async (code: string): Promise<Result<OauthState>> => {
      try {
        const exchange = { metadata, clientInformation: client, authorizationCode: code, codeVerifier };
        const more = { redirectUri: redirectUrl, fetchFn: careful(deps.fetch), ...forResource };
        const tokens = tokensOf(deps, await exchangeAuthorization(issuer, { ...exchange, ...more }));
        return ok(oauthState.parse({ grant: "authorization_code", ...found.value, client, scope, tokens }));
      } catch (thrown) {
        return refused("The authorization server refused the code", thrown);
      }
    };
    return ok({ url: authorizationUrl.href, finish });
  } catch (thrown) {
    return refused("The authorization could not begin", thrown);
  }
};

/** Gets a first token by client credentials, which proves that they are good. Error: `mcp_oauth_failed`, and outbound's. */
export const authorizeClient = async (
  deps: OauthDeps,
  input: { readonly serverUrl: string; readonly client: OauthClient; readonly scope?: string },
): Promise<Result<OauthState>> => {
  const found = await discover(deps, input.serverUrl);
  if (!found.ok) return found;
  const offered = found.value.metadata.grant_types_supported;
  if (offered !== undefined && !offered.includes("client_credentials")) {
    return err(failed("The authorization server does not offer client credentials."));
  }
  const { scope } = input;
  const client = clientOf(input.client);
  return renewAuthorization(deps, {
    grant: "client_credentials",
    ...found.value,
    client,
    ...(scope !== undefined && { scope }),
  });
};

/** After these words of an authorization server (RFC 6749, section 5.2) asking again gives nothing else. */
const FINAL_REFUSALS = ["invalid_grant", "invalid_client", "unauthorized_client"];

/** Whether a renewal failed for good, so that only a person can help. Without a cause there was nothing to renew with. */
export const needsPerson = ({ code, cause }: AppError): boolean =>
  code === "mcp_oauth_failed" &&
  (cause === undefined || (cause instanceof OAuthError && FINAL_REFUSALS.includes(cause.errorCode)));

/** A new access token by refresh token or client credentials. Error: `mcp_oauth_failed`, and outbound's. */
export const renewAuthorization = async (deps: OauthDeps, state: OauthState): Promise<Result<OauthState>> => {
  const { issuer, metadata, client, resource, scope } = state;
  const common = { metadata, fetchFn: careful(deps.fetch), ...(resource !== undefined && { resource }) };
  try {
    if (state.grant === "client_credentials") {
      const provider = new ClientCredentialsProvider({
        clientId: client.client_id,
        clientSecret: client.client_secret ?? "",
        expectedIssuer: issuer,
        ...(scope !== undefined && { scope }),
      });
      return ok({ ...state, tokens: tokensOf(deps, await fetchToken(provider, issuer, common)) });
    }
    const refreshToken = state.tokens?.refreshToken;
    if (refreshToken === undefined) return err(failed("The access token has run out, and the server gave no other."));
    const tokens = await refreshAuthorization(issuer, { ...common, clientInformation: client, refreshToken });
    return ok({ ...state, tokens: tokensOf(deps, tokens, state.tokens) });
  } catch (thrown) {
    return refused("The authorization server refused to renew the access", thrown);
  }
};
