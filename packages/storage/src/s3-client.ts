import { hash } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { AppError } from "@shaman/kernel";
import { AwsV4Signer } from "aws4fetch";
import { Agent, type Dispatcher } from "undici";
import type { S3Config } from "./config.ts";
import { storageDenied, storageFull, storageUnavailable } from "./object-store.ts";

export type S3Request = {
  readonly method: "GET" | "HEAD" | "PUT" | "POST" | "DELETE";
  /** Absent for the bucket itself. */
  readonly key?: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | string;
  readonly signal?: AbortSignal | undefined;
};

export type S3Response = Pick<Dispatcher.ResponseData, "statusCode" | "headers" | "body">;

export type S3Client = {
  /** Sends a signed request, again after a fault that may pass. 404 is an answer; other errors are thrown. */
  readonly send: (request: S3Request) => Promise<S3Response>;
  readonly close: () => Promise<void>;
};

const CONNECTIONS = 32;
const CONNECT_TIMEOUT_MS = 5_000;
/** Between two pieces of an answer; a store that is silent longer is away. */
const SILENCE_MS = 30_000;
const TRIES = 3;
const BACKOFF_MS = 200;
const MAX_TEXT_BYTES = 4_000_000;

/** The few calls of S3's HTTP API that we need, signed by AWS Signature Version 4 with the hash of what is sent. */
export const createS3Client = (config: S3Config): S3Client => {
  const agent = new Agent({
    connections: CONNECTIONS,
    connect: { timeout: CONNECT_TIMEOUT_MS },
    headersTimeout: SILENCE_MS,
    bodyTimeout: SILENCE_MS,
  });
  const keys = new Map<string, ArrayBuffer>();

  const sign = async (request: S3Request): Promise<{ readonly url: URL; readonly headers: Record<string, string> }> => {
    const signer = new AwsV4Signer({
      method: request.method,
      url: urlOf(config, request).href,
      headers: { ...request.headers, "x-amz-content-sha256": hash("sha256", request.body ?? "", "hex") },
      accessKeyId: config.accessKeyId,
      secretAccessKey: config.secretAccessKey.reveal(),
      service: "s3",
      region: config.region,
      cache: keys,
    });
    const { url, headers } = await signer.sign();
    return { url, headers: Object.fromEntries(headers) };
  };

  const sendOnce = async (request: S3Request): Promise<S3Response> => {
    const { url, headers } = await sign(request);
    const response = await agent.request({
      origin: url.origin,
      path: `${url.pathname}${url.search}`,
      method: request.method,
      headers,
      ...(request.body !== undefined && { body: request.body }),
      ...(request.signal !== undefined && { signal: request.signal }),
    });
    if (response.statusCode < 300 || response.statusCode === 404) return response;
    throw refusal(request, response.statusCode, await textOf(response));
  };

  return {
    send: async (request) => {
      for (let tries = 1; ; tries += 1) {
        try {
          return await sendOnce(request);
        } catch (error) {
          if (request.signal?.aborted === true) throw request.signal.reason;
          const failure =
            error instanceof AppError
              ? error
              : storageUnavailable(`The store at ${config.endpoint.host} does not answer`, error);
          if (failure.code !== "storage_unavailable" || tries === TRIES) throw failure;
          await delay(BACKOFF_MS * 2 ** (tries - 1), undefined, signalOption(request.signal));
        }
      }
    },
    close: () => agent.destroy(),
  };
};

const signalOption = (signal: AbortSignal | undefined) => (signal === undefined ? {} : { signal });

/** Keys and bucket names hold nothing that a URL would have to escape. */
const urlOf = (config: S3Config, { key, query = {} }: S3Request): URL => {
  const url = new URL(config.endpoint);
  const path = config.pathStyle ? [config.bucket, ...(key === undefined ? [] : [key])] : [key ?? ""];
  if (!config.pathStyle) url.hostname = `${config.bucket}.${url.hostname}`;
  url.pathname = `${url.pathname.replace(/\/$/, "")}/${path.join("/")}`;
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
  return url;
};

/** The text of an answer, no more than a few megabytes of it. */
export const textOf = async ({ body }: S3Response): Promise<string> => {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of body) {
    const piece: Uint8Array = chunk;
    bytes += piece.byteLength;
    if (bytes > MAX_TEXT_BYTES) throw storageUnavailable("The store's answer is too large");
    chunks.push(piece);
  }
  return Buffer.concat(chunks).toString();
};

/** The text of the first element of this name; S3's own elements hold no markup. */
export const elementOf = (xml: string, name: string): string | undefined => {
  const inner = new RegExp(`<${name}>([^<]*)</${name}>`).exec(xml)?.[1];
  return inner?.replace(/&(amp|lt|gt|quot|apos);/g, (_all, entity: string) => ENTITIES[entity] ?? "");
};

const ENTITIES: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };

const FULL = new Set([
  "QuotaExceeded",
  "XMinioStorageFull",
  "XAmzQuotaExceeded",
  "InsufficientStorage",
  "EntityTooLarge",
]);

/** What the store's refusal means for us. Its message may name keys of its own, and goes to operators only. */
export const refusal = (request: S3Request, status: number, xml: string): AppError => {
  const code = elementOf(xml, "Code") ?? "";
  const message = `The store answered ${status} ${code} to ${request.method}: ${(elementOf(xml, "Message") ?? "").slice(0, 300)}`;
  if (status === 507 || FULL.has(code)) return storageFull(message);
  if (status === 401 || status === 403) return storageDenied(`${message} Look at S3_ACCESS_KEY_ID and S3_BUCKET.`);
  const mayPass = status === 408 || status === 429 || (status >= 500 && status !== 501);
  if (mayPass) return storageUnavailable(message);
  return new AppError({ code: "storage_refused", kind: "unexpected", message });
};
