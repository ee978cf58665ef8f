import { createHash } from "node:crypto";
import { AppError } from "@shaman/kernel";
import type { S3Config } from "./config.ts";
import { assertObjectKey, assertObjectPrefix } from "./object-key.ts";
import { storageDenied, storageUnavailable, type ObjectStore, type StoredContent } from "./object-store.ts";
import { createS3Client, elementOf, refusal, textOf, type S3Client, type S3Response } from "./s3-client.ts";

/** The least that S3 takes as a part of an upload, so that is what one upload holds in memory. */
const PART_BYTES = 5 * 1024 * 1024;
const MAX_PARTS = 10_000;
const MAX_LISTED = 1_000;
const CLEAN_UP_MS = 10_000;

/** Objects in a bucket of an S3-compatible store. Larger ones go up in parts, one at a time. */
export const createS3Store = (config: S3Config): ObjectStore => {
  const client = createS3Client(config);
  const find: ObjectStore["find"] = async (key, { signal } = {}) => {
    const response = await client.send({ method: "HEAD", key: assertObjectKey(key), signal });
    await response.body.dump();
    return response.statusCode === 404 ? undefined : { key, bytes: lengthOf(response) };
  };
  return {
    find,
    put: async (key, content, { signal } = {}) => upload({ client, key: assertObjectKey(key), signal }, content),
    get: async (key, { range, signal } = {}) => {
      const headers = range === undefined ? {} : { range: `bytes=${range.first}-${range.last}` };
      const response = await client.send({ method: "GET", key: assertObjectKey(key), headers, signal });
      if (response.statusCode === 404) {
        await response.body.dump();
        return undefined;
      }
      const total = /\/(\d+)$/.exec(String(response.headers["content-range"] ?? ""))?.[1];
      const whole = response.statusCode === 200;
      if (range !== undefined && (whole || total === undefined)) {
        response.body.destroy();
        throw storageUnavailable("The store does not answer range requests");
      }
      return { bytes: whole ? lengthOf(response) : Number(total), content: response.body };
    },
    delete: async (key, { signal } = {}) => {
      const response = await client.send({ method: "DELETE", key: assertObjectKey(key), signal });
      await response.body.dump();
      for (const uploadId of await unfinishedUploads({ client, key, signal })) {
        await abortUpload({ client, key, signal }, uploadId);
      }
    },
    list: async (prefix, { limit, after, signal }) => {
      const query = {
        "list-type": "2",
        prefix: assertObjectPrefix(prefix),
        "max-keys": String(Math.min(limit, MAX_LISTED)),
        ...(after !== undefined && { "start-after": after }),
      };
      const response = await client.send({ method: "GET", query, signal });
      const xml = await textOf(response);
      assertBucket(config, response);
      return elementsOf(xml, "Contents").map((entry) => ({
        key: assertObjectKey(elementOf(entry, "Key") ?? ""),
        bytes: Number(elementOf(entry, "Size")),
      }));
    },
    check: async () => {
      const query = { "list-type": "2", "max-keys": "1" };
      const response = await client.send({ method: "GET", query, signal: AbortSignal.timeout(CLEAN_UP_MS) });
      await response.body.dump();
      assertBucket(config, response);
    },
    close: client.close,
  };
};

const lengthOf = ({ headers }: S3Response): number => Number(headers["content-length"]);

const assertBucket = (config: S3Config, { statusCode }: S3Response): void => {
  if (statusCode === 404) throw storageDenied(`There is no bucket ${config.bucket}: make it, or set S3_BUCKET.`);
};

type Target = { readonly client: S3Client; readonly key: string; readonly signal: AbortSignal | undefined };

type Part = { readonly number: number; readonly etag: string };

/** Small content is one request, larger is a multipart upload; what was begun and not ended is taken back. */
const upload = async (target: Target, content: AsyncIterable<Uint8Array>): Promise<StoredContent> => {
  const hashed = createHash("sha256");
  const parts: Part[] = [];
  let held: Uint8Array[] = [];
  let heldBytes = 0;
  let bytes = 0;
  let uploadId: string | undefined;
  const take = (): Buffer => {
    const body = Buffer.concat(held, heldBytes);
    held = [];
    heldBytes = 0;
    return body;
  };
  try {
    for await (const chunk of content) {
      target.signal?.throwIfAborted();
      hashed.update(chunk);
      bytes += chunk.byteLength;
      for (let from = 0; from < chunk.byteLength;) {
        const piece = chunk.subarray(from, from + PART_BYTES - heldBytes);
        held.push(piece);
        heldBytes += piece.byteLength;
        from += piece.byteLength;
        if (heldBytes < PART_BYTES) continue;
        uploadId ??= await beginUpload(target);
        parts.push(await putPart(target, { uploadId, number: parts.length + 1, body: take() }));
      }
    }
    if (uploadId === undefined) await putWhole(target, take());
    else {
      if (heldBytes > 0) parts.push(await putPart(target, { uploadId, number: parts.length + 1, body: take() }));
      await completeUpload(target, { uploadId, parts });
    }
    return { bytes, sha256: hashed.digest("hex") };
  } catch (error) {
    // The signal may be the reason, so the clean-up has a time of its own; retention comes back for what it leaves.
    if (uploadId !== undefined) {
      const own = { ...target, signal: AbortSignal.timeout(CLEAN_UP_MS) };
      await abortUpload(own, uploadId).catch(() => undefined);
    }
    throw error;
  }
};

const OCTETS = { "content-type": "application/octet-stream" };

const putWhole = async ({ client, key, signal }: Target, body: Uint8Array): Promise<void> => {
  const response = await client.send({ method: "PUT", key, headers: OCTETS, body, signal });
  await expectDone(response, "PUT");
};

const beginUpload = async ({ client, key, signal }: Target): Promise<string> => {
  const response = await client.send({ method: "POST", key, query: { uploads: "" }, headers: OCTETS, signal });
  const uploadId = elementOf(await expectDone(response, "POST"), "UploadId");
  if (uploadId === undefined) throw storageUnavailable("The store began no upload");
  return uploadId;
};

const putPart = async (
  { client, key, signal }: Target,
  { uploadId, number, body }: { readonly uploadId: string; readonly number: number; readonly body: Uint8Array },
): Promise<Part> => {
  if (number > MAX_PARTS) throw new RangeError(`An object has ${MAX_PARTS} parts of ${PART_BYTES} bytes at most`);
  const query = { partNumber: String(number), uploadId };
  const response = await client.send({ method: "PUT", key, query, body, signal });
  await expectDone(response, "PUT");
  return { number, etag: String(response.headers.etag ?? "") };
};

/** A store may only find out after it answered 200 that it cannot: then the body is an error. */
const completeUpload = async (
  { client, key, signal }: Target,
  { uploadId, parts }: { readonly uploadId: string; readonly parts: readonly Part[] },
): Promise<void> => {
  const listed = parts.map(({ number, etag }) => {
    const safe = etag.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
    return `<Part><PartNumber>${number}</PartNumber><ETag>${safe}</ETag></Part>`;
  });
  const body = `<CompleteMultipartUpload>${listed.join("")}</CompleteMultipartUpload>`;
  const headers = { "content-type": "application/xml" };
  const response = await client.send({ method: "POST", key, query: { uploadId }, headers, body, signal });
  // Sent again after an answer that was lost, the upload is unknown: it became the object the first time.
  if (response.statusCode === 404 && (await isThere({ client, key, signal }))) {
    await response.body.dump();
    return;
  }
  const xml = await expectDone(response, "POST");
  if (xml.includes("<Error>")) throw refusal({ method: "POST" }, 500, xml);
};

const isThere = async ({ client, key, signal }: Target): Promise<boolean> => {
  const response = await client.send({ method: "HEAD", key, signal });
  await response.body.dump();
  return response.statusCode !== 404;
};

const abortUpload = async ({ client, key, signal }: Target, uploadId: string): Promise<void> => {
  const response = await client.send({ method: "DELETE", key, query: { uploadId }, signal });
  await response.body.dump();
};

const unfinishedUploads = async ({ client, key, signal }: Target): Promise<readonly string[]> => {
  const query = { uploads: "", prefix: key };
  const response = await client.send({ method: "GET", query, signal }).catch((error: unknown) => {
    // Some stores cannot list unfinished uploads; those end them by a rule of the bucket.
    if (error instanceof AppError && error.code === "storage_refused") return undefined;
    throw error;
  });
  if (response === undefined) return [];
  const xml = await textOf(response);
  return elementsOf(xml, "Upload").flatMap((entry) => elementOf(entry, "UploadId") ?? []);
};

const expectDone = async (response: S3Response, method: "PUT" | "POST"): Promise<string> => {
  const xml = await textOf(response);
  if (response.statusCode < 300) return xml;
  if (elementOf(xml, "Code") === "NoSuchBucket") {
    throw storageDenied("There is no such bucket: make it, or set S3_BUCKET.");
  }
  throw refusal({ method }, response.statusCode, xml);
};

const elementsOf = (xml: string, name: string): readonly string[] =>
  [...xml.matchAll(new RegExp(`<${name}>(.*?)</${name}>`, "gs"))].map(([, inner = ""]) => inner);
