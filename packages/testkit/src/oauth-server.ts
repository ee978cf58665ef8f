import { createHash, randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";

export type OauthTestServer = {
  readonly issuer: string;
  /** Whether a bearer token is good now. */
  readonly isGood: (token: string | undefined) => boolean;
  /** Makes every access token bad; refresh tokens stay. */
  readonly expireTokens: () => void;
  /** Refuses all refresh tokens from now on. */
  readonly revoke: () => void;
  /** Bodies of the requests for tokens, in order. */
  readonly tokenRequests: readonly URLSearchParams[];
  readonly close: () => Promise<void>;
};

export type OauthTestServerOptions = {
  readonly clientId?: string;
  readonly clientSecret?: string;
  /** Another issuer in the metadata than the server's own. */
  readonly claimedIssuer?: string;
  readonly expiresInSeconds?: number;
};

const readBody = async (incoming: IncomingMessage): Promise<string> => {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks).toString();
};

const json = (response: ServerResponse, status: number, body: unknown): void => {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
};

/**
 * An OAuth 2.1 authorization server on loopback: metadata, client registration, codes with PKCE (S256), rotating refresh
 * tokens (each good once), client credentials. Whoever comes to `/authorize` is sent back with a code at once.
 */
export const startOauthServer = async (options: OauthTestServerOptions = {}): Promise<OauthTestServer> => {
  const codes = new Map<string, string>();
  const refresh = new Set<string>();
  const access = new Set<string>();
  const tokenRequests: URLSearchParams[] = [];
  let issuer = "";
  let isRevoked = false;

  const issue = (response: ServerResponse, withRefresh: boolean): void => {
    const token = randomUUID();
    access.add(token);
    const next = randomUUID();
    if (withRefresh) refresh.add(next);
    json(response, 200, {
      access_token: token,
      token_type: "Bearer",
      expires_in: options.expiresInSeconds ?? 3_600,
      ...(withRefresh && { refresh_token: next }),
    });
  };

  const isClient = (incoming: IncomingMessage): boolean => {
    const wanted = Buffer.from(`${options.clientId ?? ""}:${options.clientSecret ?? ""}`).toString("base64");
    return options.clientSecret !== undefined && incoming.headers.authorization === `Basic ${wanted}`;
  };

  const handleToken = async (incoming: IncomingMessage, response: ServerResponse): Promise<void> => {
    const body = new URLSearchParams(await readBody(incoming));
    tokenRequests.push(body);
    switch (body.get("grant_type")) {
      case "authorization_code": {
        const challenge = createHash("sha256")
          .update(body.get("code_verifier") ?? "")
          .digest("base64url");
        if (codes.get(body.get("code") ?? "") === challenge) return issue(response, true);
        return json(response, 400, { error: "invalid_grant" });
      }
      case "refresh_token":
        if (!isRevoked && refresh.delete(body.get("refresh_token") ?? "")) return issue(response, true);
        return json(response, 400, { error: "invalid_grant", error_description: "used or revoked" });
      case "client_credentials":
        return isClient(incoming) ? issue(response, false) : json(response, 401, { error: "invalid_client" });
      default:
        return json(response, 400, { error: "unsupported_grant_type" });
    }
  };

  const handle = async (incoming: IncomingMessage, response: ServerResponse): Promise<void> => {
    const url = new URL(incoming.url ?? "/", issuer);
    switch (url.pathname) {
      case "/.well-known/oauth-authorization-server":
        return json(response, 200, {
          issuer: options.claimedIssuer ?? issuer,
          authorization_endpoint: `${issuer}/authorize`,
          token_endpoint: `${issuer}/token`,
          registration_endpoint: `${issuer}/register`,
          response_types_supported: ["code"],
          grant_types_supported: ["authorization_code", "refresh_token", "client_credentials"],
          code_challenge_methods_supported: ["S256"],
        });
      case "/register": {
        const metadata: unknown = JSON.parse(await readBody(incoming));
        return json(response, 201, { ...Object(metadata), client_id: randomUUID() });
      }
      case "/authorize": {
        const code = randomUUID();
        codes.set(code, url.searchParams.get("code_challenge") ?? "");
        const back = new URL(url.searchParams.get("redirect_uri") ?? "");
        back.searchParams.set("code", code);
        back.searchParams.set("state", url.searchParams.get("state") ?? "");
        response.writeHead(302, { location: back.href }).end();
        return undefined;
      }
      case "/token":
        return handleToken(incoming, response);
      default:
        return json(response, 404, {});
    }
  };

  const server = createServer((incoming, response) => {
    handle(incoming, response).catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("The authorization server has no port.");
  issuer = `http://127.0.0.1:${address.port}`;
  return {
    issuer,
    isGood: (token) => token !== undefined && access.has(token),
    expireTokens: () => access.clear(),
    revoke: () => {
      isRevoked = true;
    },
    tokenRequests,
    close: async () => {
      const closed = new Promise<void>((resolve) => {
        server.close(() => resolve());
      });
      server.closeAllConnections();
      await closed;
    },
  };
};

/** An `intercept` of a test's MCP server that wants tokens of this authorization server, and says where it is (RFC 9728). */
export const protectedBy =
  (oauth: Pick<OauthTestServer, "issuer" | "isGood">) =>
  (incoming: IncomingMessage, response: ServerResponse): boolean => {
    const origin = `http://${incoming.headers.host ?? ""}`;
    if (incoming.url?.startsWith("/.well-known/oauth-protected-resource") === true) {
      json(response, 200, { resource: `${origin}/mcp`, authorization_servers: [oauth.issuer] });
      return true;
    }
    if (oauth.isGood(/^Bearer (\S+)$/.exec(incoming.headers.authorization ?? "")?.[1])) return false;
    response.writeHead(401, { "www-authenticate": "Bearer" }).end();
    return true;
  };
