import { resourceSegment } from "@shaman/access";
import { AppError, userError } from "@shaman/kernel";
import { z } from "zod";

export const MCP_TRANSPORTS = ["streamable-http", "sse"] as const;
export type McpTransport = (typeof MCP_TRANSPORTS)[number];

/** How an organization's server knows who calls. */
export const MCP_AUTHS = ["none", "headers", "oauth"] as const;
export type McpAuth = (typeof MCP_AUTHS)[number];

/** A server's name begins the names of its tools in agent files. */
export const mcpServerName = z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, "must be 1 to 64 letters, digits, - or _");

export const mcpServerResource = (name: string): string => `/mcpServers/${resourceSegment(name)}/`;

export const mcpServerNotFound = (name: string): AppError =>
  userError("mcp_server_not_found", `This organization has no MCP server "${name.slice(0, 100)}".`);

export const APPROVE = "mcpServer:approve";
export const AUTHORIZE = "mcpServer:authorize";

const unusable = (message: string, cause: unknown): AppError =>
  new AppError({ code: "mcp_credential_unusable", kind: "user", message, ...(cause !== undefined && { cause }) });

/** What makes a stored credential unusable; the operator has to act. */
export const mcpCredentialUnusable = (name: string, problem: string, cause?: unknown): AppError =>
  unusable(
    `The credential of the MCP server "${name}" cannot be used: ${problem} Remove the server and add it again.`,
    cause,
  );

/** The same of a stored authorization. */
export const mcpAuthorizationUnusable = (name: string, problem: string, cause?: unknown): AppError =>
  unusable(
    `The authorization of the MCP server "${name}" cannot be used: ${problem} Run ./shaman mcp authorize ${name}.`,
    cause,
  );

/** An authorization that its authorization server does not renew any more. */
export const mcpAuthorizationExpired = (name: string, cause: AppError): AppError =>
  new AppError({
    code: "mcp_authorization_expired",
    kind: "user",
    message: `The authorization of the MCP server "${name}" has expired or was revoked: run ./shaman mcp authorize ${name}. ${cause.message}`,
    cause,
  });
