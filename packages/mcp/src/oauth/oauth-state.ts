import {
  OAuthClientInformationSchema,
  OAuthMetadataSchema,
  OpenIdProviderDiscoveryMetadataSchema,
} from "@modelcontextprotocol/sdk/shared/auth.js";
import { err, ok, Secret, type Result } from "@shaman/kernel";
import { z } from "zod";
import { mcpAuthorizationUnusable } from "../mcp-server.ts";

/**
 * All that is known of one server's OAuth 2.1 authorization. It is sealed as a whole. The client's secret and the refresh
 * token go to the token endpoint that was found at registration, and to no other.
 */
export const oauthState = z.object({
  grant: z.enum(["authorization_code", "client_credentials"]),
  /** Origin of the MCP server that the access token is for. */
  origin: z.string(),
  issuer: z.string(),
  metadata: z.union([OpenIdProviderDiscoveryMetadataSchema, OAuthMetadataSchema]),
  client: z.looseObject({
    ...OAuthClientInformationSchema.shape,
    token_endpoint_auth_method: z.string().optional(),
  }),
  /** RFC 8707. */
  resource: z.string().optional(),
  scope: z.string().optional(),
  tokens: z
    .object({
      accessToken: z.string(),
      refreshToken: z.string().optional(),
      /** Milliseconds since 1970; absent when the server did not say. */
      expiresAt: z.number().optional(),
    })
    .optional(),
});
export type OauthState = z.infer<typeof oauthState>;

/** What `encodeOauthState` gave. */
export const decodeOauthState = (serverName: string, text: Secret): Result<OauthState> => {
  const parsed = oauthState.safeParse(JSON.parse(text.reveal()));
  return parsed.success ? ok(parsed.data) : err(mcpAuthorizationUnusable(serverName, "it is not readable."));
};

export const encodeOauthState = (state: OauthState): Secret => new Secret(JSON.stringify(state));

/** The identity under which the state of one server is sealed. */
export const oauthIdentity = (at: { readonly orgId: string; readonly serverId: string }): string =>
  `mcp_authorization:${at.orgId}:${at.serverId}`;
