import { systemClock } from "@shaman/kernel";
import { expect, test } from "vitest";
import { renewAuthorization } from "./oauth-flow.ts";

const ISSUER = "https://login.example";
const SECRET = "client secret of this test +/=";
const REFRESH = "refresh-token-of-this-test-0123456789";

/** An authorization server that refuses, and repeats in its words all that it was sent. */
const echoing = async (_url: string | URL | Request, init?: RequestInit): Promise<Response> => {
  const authorization = new Headers(init?.headers).get("authorization") ?? "";
  const decoded = Buffer.from(authorization.replace("Basic ", ""), "base64").toString();
  const form = init?.body instanceof URLSearchParams ? init.body.toString() : "";
  const words = `unknown: ${form} ${authorization} ${decoded} ${REFRESH} ${SECRET}`;
  return Response.json({ error: "invalid_grant", error_description: words }, { status: 400 });
};

test.each(["client_secret_basic", "client_secret_post"])(
  "a refusal does not say the secrets again, by %s",
  async (method) => {
    const renewed = await renewAuthorization(
      { fetch: echoing, clock: systemClock },
      {
        grant: "authorization_code",
        origin: "https://mcp.example",
        issuer: ISSUER,
        metadata: {
          issuer: ISSUER,
          authorization_endpoint: `${ISSUER}/authorize`,
          token_endpoint: `${ISSUER}/token`,
          response_types_supported: ["code"],
          token_endpoint_auth_methods_supported: [method],
        },
        client: { client_id: "c", client_secret: SECRET, token_endpoint_auth_method: method },
        tokens: { accessToken: "a", refreshToken: REFRESH },
      },
    );
    if (renewed.ok) throw new Error("renewed");
    expect(renewed.error.message).toContain("invalid_grant");
    for (const said of [SECRET, REFRESH, encodeURIComponent(SECRET), Buffer.from(`c:${SECRET}`).toString("base64")]) {
      expect(renewed.error.message).not.toContain(said);
    }
  },
);
