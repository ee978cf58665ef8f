import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { Db } from "@shaman/db";
import { AppError, isId, userError, type Clock } from "@shaman/kernel";
import { findStoredObject, type StoredObject } from "@shaman/runs";
import { isDownloadAllowed, isTextual, type ByteRange, type DownloadKeys, type ObjectStore } from "@shaman/storage";
import type { OrganizationDirectory } from "@shaman/tenancy";
import type { Logger } from "@shaman/telemetry";
import type { FastifyReply, FastifyRequest } from "fastify";

export type ArtifactDeps = {
  readonly db: Db;
  readonly store: ObjectStore;
  readonly organizations: Pick<OrganizationDirectory, "byHost">;
  readonly downloadKeys: DownloadKeys;
  readonly clock: Clock;
  readonly log: Logger;
};

type Exchange = { readonly request: FastifyRequest; readonly reply: FastifyReply };

/** A reader that takes nothing for so long has gone. */
const SILENCE_MS = 60_000;

/** One and the same for what never was, what is another organization's, and an address that is wrong or too old. */
const notFound = (): AppError =>
  userError(
    "artifact_not_found",
    "There is nothing at this address, or not any more. Read the task again: it has a new one.",
  );

/**
 * `GET /a2a/v1/artifacts/{id}?expires=…&signature=…`: content of an artifact, as a download that no browser renders. The
 * signature is all that is asked for, and holds for one object on its organization's own host.
 */
export const sendArtifact = async (deps: ArtifactDeps, exchange: Exchange, objectId: string): Promise<void> => {
  const { request, reply } = exchange;
  const object = await findAllowed(deps, request, objectId);
  if (object === undefined) throw notFound();
  const etag = `"${object.sha256}"`;
  const headers: Record<string, string> = {
    ...headersOf(object),
    etag,
    "x-request-id": request.id,
  };
  if (request.headers["if-none-match"] === etag) {
    reply.hijack();
    return void reply.raw.writeHead(304, headers).end();
  }
  const range = isRangeFor(request, etag) ? parseRange(request.headers.range, object.bytes) : undefined;
  if (range === "none") {
    reply.header("content-range", `bytes */${object.bytes}`);
    throw userError("range_not_satisfiable", `The content has ${object.bytes} bytes.`);
  }
  const length = range === undefined ? object.bytes : range.last - range.first + 1;
  headers["content-length"] = String(length);
  if (range !== undefined) headers["content-range"] = `bytes ${range.first}-${range.last}/${object.bytes}`;
  const status = range === undefined ? 200 : 206;
  if (request.method === "HEAD") {
    reply.hijack();
    return void reply.raw.writeHead(status, headers).end();
  }
  await sendContent(deps, exchange, { object, range, status, headers });
};

const findAllowed = async (
  deps: ArtifactDeps,
  request: FastifyRequest,
  objectId: string,
): Promise<StoredObject | undefined> => {
  const organization = await deps.organizations.byHost(request.headers.host ?? "");
  const query = new URL(request.raw.url ?? "", "http://localhost").searchParams;
  const expires = /^[1-9]\d{0,11}$/.exec(query.get("expires") ?? "")?.[0];
  if (organization === undefined || expires === undefined || !isId("art", objectId)) return undefined;
  const download = { orgId: organization.id, objectId, expires: Number(expires) };
  const signature = query.get("signature") ?? "";
  if (!isDownloadAllowed(deps.downloadKeys, { ...download, signature, nowMs: deps.clock.now() })) return undefined;
  return findStoredObject(deps.db, download);
};

type Sending = {
  readonly object: StoredObject;
  readonly range: ByteRange | undefined;
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
};

const sendContent = async (deps: ArtifactDeps, { request, reply }: Exchange, sending: Sending): Promise<void> => {
  const { object, range, status, headers } = sending;
  const gone = new AbortController();
  reply.raw.once("close", () => gone.abort(new Error("The reader has gone")));
  const options = { signal: gone.signal, ...(range !== undefined && { range }) };
  const found = await deps.store.get(object.key, options);
  if (found === undefined || found.bytes !== object.bytes) {
    const error = corrupt(object.key, found === undefined ? "is missing" : `has ${found.bytes} bytes`);
    deps.log.error("artifact_unreadable", error, { requestId: request.id });
    throw notFound();
  }
  reply.hijack();
  reply.raw.setTimeout(SILENCE_MS, () => reply.raw.destroy());
  reply.raw.writeHead(status, { ...headers });
  const content = range === undefined ? verified(found.content, object) : found.content;
  await pipeline(Readable.from(content, { objectMode: false }), reply.raw).catch((error: unknown) => {
    // The length was promised, so whoever reads sees that the answer is not whole.
    if (!gone.signal.aborted) deps.log.error("artifact_broken_off", error, { requestId: request.id });
    reply.raw.destroy();
  });
};

const corrupt = (key: string, what: string): AppError =>
  new AppError({ code: "storage_corrupt", kind: "unexpected", message: `The object ${key} ${what}` });

/** The content, its last piece only once the hash of all of it is known to be right. */
async function* verified(content: AsyncIterable<Uint8Array>, object: StoredObject): AsyncGenerator<Uint8Array> {
  const hashed = createHash("sha256");
  let held: Uint8Array | undefined;
  for await (const chunk of content) {
    if (held !== undefined) yield held;
    hashed.update(chunk);
    held = chunk;
  }
  if (hashed.digest("hex") !== object.sha256) throw corrupt(object.key, "has other content than was written");
  if (held !== undefined) yield held;
}

/** Nothing of it is ever shown by a browser as a page of this host, whatever it is and says it is. */
const headersOf = ({ mediaType, filename }: StoredObject): Record<string, string> => ({
  "content-type": isTextual(mediaType) && !mediaType.includes(";") ? `${mediaType}; charset=utf-8` : mediaType,
  "content-disposition": dispositionOf(filename),
  "x-content-type-options": "nosniff",
  "content-security-policy": "sandbox; default-src 'none'",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "cache-control": "private, no-store",
  "accept-ranges": "bytes",
});

/** RFC 6266: the name in ASCII for old readers, and as it is (RFC 8187) for others. */
const dispositionOf = (filename: string | null): string => {
  const name = (filename ?? "").replace(/[\p{Cc}\p{Cf}/\\]/gu, "_").slice(0, 200);
  if (name === "") return "attachment";
  const ascii = name.replace(/[^ -~]|["%]/g, "_");
  const encoded = encodeURIComponent(name.toWellFormed()).replace(
    /['()*]/g,
    (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return `attachment; filename="${ascii}"; filename*=UTF-8''${encoded}`;
};

/** RFC 9110 §13.1.5: a range of another version than the reader has is no use. */
const isRangeFor = ({ headers, method }: FastifyRequest, etag: string): boolean =>
  method === "GET" && (headers["if-range"] === undefined || headers["if-range"] === etag);

/** RFC 9110 §14.1.2. Several ranges at once are answered with the whole, as is what is no range of bytes. */
const parseRange = (header: string | undefined, bytes: number): ByteRange | "none" | undefined => {
  const [, from = "", to = ""] = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header ?? "") ?? [];
  if (from === "" && to === "") return undefined;
  if (from === "") {
    return Number(to) === 0 || bytes === 0 ? "none" : { first: Math.max(0, bytes - Number(to)), last: bytes - 1 };
  }
  const first = Number(from);
  if (to !== "" && Number(to) < first) return undefined;
  if (first >= bytes) return "none";
  return { first, last: to === "" ? bytes - 1 : Math.min(Number(to), bytes - 1) };
};
