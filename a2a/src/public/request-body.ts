import { isUtf8 } from "node:buffer";
import type { Readable } from "node:stream";
import { userError } from "@shaman/kernel";
import { defaultSettings, type OrganizationDirectory } from "@shaman/tenancy";
import type { FastifyRequest } from "fastify";

/** What is read and thrown away of a body that is too large, so that its sender gets to read why it was refused. */
const MAX_DISCARDED_BYTES = 8_000_000;

/**
 * Reads a request's body as text, as large as its organization allows, without keeping what is more. Throws
 * `body_too_large`, and `parse_error` for what is not UTF-8.
 */
export const createBodyReader =
  (deps: { readonly organizations: OrganizationDirectory }) =>
  async (request: FastifyRequest, payload: Readable): Promise<string> => {
    const organization = await deps.organizations.byHost(request.headers.host ?? "");
    const maxBytes = (organization?.settings ?? defaultSettings).intake.requestBodyBytes;
    const chunks: Buffer[] = [];
    let bytes = 0;
    // Left early, the connection must stay open for the refusal.
    const arriving: AsyncIterable<Buffer> = payload.iterator({ destroyOnReturn: false });
    for await (const chunk of arriving) {
      bytes += chunk.length;
      if (bytes <= maxBytes) chunks.push(chunk);
      else if (bytes > maxBytes + MAX_DISCARDED_BYTES) break;
      else chunks.length = 0;
    }
    if (bytes > maxBytes) throw userError("body_too_large", `The request body is larger than ${maxBytes} bytes.`);
    const [first, second] = chunks;
    const body = first !== undefined && second === undefined ? first : Buffer.concat(chunks);
    if (!isUtf8(body)) throw userError("parse_error", "Invalid JSON payload: the body is not UTF-8.");
    return body.toString();
  };
