import { err, ok, Secret, userError, type Result } from "@shaman/kernel";
import { z } from "zod";

const NAME = /^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$/;
const VALUE = /^[\x20-\x7e]{1,4096}$/;
const MAX_HEADERS = 20;

/** Headers that are the transport's own, or that would change where a request goes or how it is framed. */
const RESERVED = new Set([
  "accept",
  "connection",
  "content-length",
  "content-type",
  "expect",
  "host",
  "keep-alive",
  "last-event-id",
  "mcp-protocol-version",
  "mcp-session-id",
  "proxy-authorization",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

/** Checks headers that a person gave for a server, and puts them into one text to seal. */
export const encodeHeaders = (headers: Readonly<Record<string, Secret>>): Result<Secret> => {
  const entries = Object.entries(headers);
  if (entries.length === 0 || entries.length > MAX_HEADERS) {
    return err(userError("invalid_input", `Give 1 to ${MAX_HEADERS} headers.`));
  }
  for (const [name, value] of entries) {
    if (!NAME.test(name) || RESERVED.has(name.toLowerCase())) {
      return err(userError("invalid_input", `"${name.slice(0, 100)}" cannot be a header of an MCP server.`));
    }
    if (!VALUE.test(value.reveal())) {
      return err(userError("invalid_input", `The value of the header ${name} must be one line of ASCII.`));
    }
  }
  return ok(new Secret(JSON.stringify(Object.fromEntries(entries.map(([name, value]) => [name, value.reveal()])))));
};

const stored = z.record(z.string(), z.string());

export const decodeHeaders = (sealed: Secret): Readonly<Record<string, string>> =>
  stored.parse(JSON.parse(sealed.reveal()));
