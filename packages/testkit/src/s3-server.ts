import { createHash, createHmac, randomBytes } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";

export type S3Server = {
  readonly endpoint: string;
  readonly bucket: string;
  readonly region: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly env: Readonly<Record<string, string>>;
  /** Uploads that were begun and neither completed nor aborted. */
  readonly openUploads: () => readonly string[];
  readonly keys: () => readonly string[];
  /** Method and path of each request so far, query included. */
  readonly requests: readonly string[];
  /** Answers the next so many requests of this method with an error. */
  readonly fail: (fault: {
    readonly method: string;
    readonly status: number;
    readonly code: string;
    readonly times: number;
  }) => void;
  readonly close: () => Promise<void>;
};

type Upload = { readonly key: string; readonly parts: Map<number, { readonly etag: string; readonly file: string }> };

class S3Error extends Error {
  readonly status: number;
  readonly code: string;
  constructor(status: number, code: string) {
    super(code);
    this.status = status;
    this.code = code;
  }
}

const BUCKET = "artifacts";
const REGION = "eu-test-1";
const MIN_PART_BYTES = 5 * 1024 * 1024;

/**
 * A small S3-compatible store with one bucket, on disk: objects, ranges, lists and multipart uploads. It checks each
 * request's AWS Signature Version 4 by the specification and refuses what is signed wrongly.
 */
export const startS3Server = async (): Promise<S3Server> => {
  const folder = await mkdtemp(join(tmpdir(), "shaman-s3-"));
  const [accessKeyId, secretAccessKey] = [`AK${randomBytes(8).toString("hex")}`, randomBytes(24).toString("base64")];
  const objects = new Map<string, string>();
  const uploads = new Map<string, Upload>();
  const requests: string[] = [];
  let fault: Parameters<S3Server["fail"]>[0] | undefined;

  const store = async (request: IncomingMessage): Promise<{ readonly file: string; readonly etag: string }> => {
    const file = join(folder, randomBytes(12).toString("hex"));
    const [md5, sha256] = [createHash("md5"), createHash("sha256")];
    await pipeline(
      request,
      async function* (chunks: AsyncIterable<Buffer>) {
        for await (const chunk of chunks) {
          md5.update(chunk);
          sha256.update(chunk);
          yield chunk;
        }
      },
      createWriteStream(file),
    );
    if (sha256.digest("hex") !== request.headers["x-amz-content-sha256"]) {
      throw new S3Error(400, "XAmzContentSHA256Mismatch");
    }
    return { file, etag: `"${md5.digest("hex")}"` };
  };

  const complete = async (uploadId: string, body: string): Promise<string> => {
    const upload = uploads.get(uploadId);
    if (upload === undefined) throw new S3Error(404, "NoSuchUpload");
    const named = [...body.matchAll(/<PartNumber>(\d+)<\/PartNumber><ETag>([^<]*)<\/ETag>/g)];
    const file = join(folder, randomBytes(12).toString("hex"));
    await writeFile(file, "");
    for (const [index, [, number = "", etag = ""]] of named.entries()) {
      const part = upload.parts.get(Number(number));
      if (part === undefined || part.etag !== etag.replaceAll("&quot;", '"')) throw new S3Error(400, "InvalidPart");
      if (index < named.length - 1 && (await stat(part.file)).size < MIN_PART_BYTES) {
        throw new S3Error(400, "EntityTooSmall");
      }
      await pipeline(createReadStream(part.file), createWriteStream(file, { flags: "a" }));
    }
    objects.set(upload.key, file);
    uploads.delete(uploadId);
    return `<CompleteMultipartUploadResult><Key>${upload.key}</Key></CompleteMultipartUploadResult>`;
  };

  const listObjects = async (query: URLSearchParams): Promise<string> => {
    const after = query.get("start-after") ?? "";
    const keys = [...objects.keys()]
      .filter((key) => key.startsWith(query.get("prefix") ?? "") && key > after)
      .toSorted();
    const page = keys.slice(0, Number(query.get("max-keys") ?? 1_000));
    const entries = await Promise.all(
      page.map(async (key) => {
        const { size } = await stat(objects.get(key) ?? "");
        return `<Contents><Key>${key}</Key><Size>${size}</Size></Contents>`;
      }),
    );
    return `<ListBucketResult>${entries.join("")}</ListBucketResult>`;
  };

  const sendObject = async (request: IncomingMessage, response: ServerResponse, key: string): Promise<void> => {
    const file = objects.get(key);
    if (file === undefined) throw new S3Error(404, "NoSuchKey");
    const { size } = await stat(file);
    const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "");
    const [start, end] = range === null ? [0, size - 1] : [Number(range[1]), Math.min(Number(range[2]), size - 1)];
    response.writeHead(range === null ? 200 : 206, {
      "content-length": Math.max(0, end - start + 1),
      ...(range !== null && { "content-range": `bytes ${start}-${end}/${size}` }),
    });
    if (request.method === "HEAD" || size === 0) response.end();
    else await pipeline(createReadStream(file, { start, end }), response);
  };

  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const url = new URL(request.url ?? "/", "http://localhost");
    requests.push(`${request.method} ${request.url}`);
    if (fault !== undefined && fault.method === request.method && fault.times > 0) {
      fault = { ...fault, times: fault.times - 1 };
      throw new S3Error(fault.status, fault.code);
    }
    assertSigned(request, url, { accessKeyId, secretAccessKey });
    const [, bucket = "", ...rest] = url.pathname.split("/");
    if (bucket !== BUCKET) throw new S3Error(404, "NoSuchBucket");
    const key = rest.join("/");
    const uploadId = url.searchParams.get("uploadId");
    const send = (xml: string): void => void response.setHeader("content-type", "application/xml").end(xml);
    switch (request.method) {
      case "GET":
        if (key !== "") return sendObject(request, response, key);
        if (!url.searchParams.has("uploads")) return send(await listObjects(url.searchParams));
        return send(
          [...uploads]
            .filter(([, upload]) => upload.key.startsWith(url.searchParams.get("prefix") ?? ""))
            .map(([id, upload]) => `<Upload><Key>${upload.key}</Key><UploadId>${id}</UploadId></Upload>`)
            .join(""),
        );
      case "HEAD":
        return sendObject(request, response, key);
      case "PUT": {
        const { file, etag } = await store(request);
        if (uploadId === null) objects.set(key, file);
        else {
          const upload = uploads.get(uploadId);
          if (upload === undefined) throw new S3Error(404, "NoSuchUpload");
          upload.parts.set(Number(url.searchParams.get("partNumber")), { etag, file });
        }
        return void response.setHeader("etag", etag).end();
      }
      case "POST": {
        const { file } = await store(request);
        if (uploadId !== null) return send(await complete(uploadId, await readFile(file, "utf8")));
        const id = randomBytes(12).toString("hex");
        uploads.set(id, { key, parts: new Map() });
        return send(`<InitiateMultipartUploadResult><UploadId>${id}</UploadId></InitiateMultipartUploadResult>`);
      }
      default: {
        if (uploadId === null) objects.delete(key);
        else uploads.delete(uploadId);
        return void response.writeHead(204).end();
      }
    }
  };

  const server = createServer((request, response) => {
    answer(request, response).catch((error: unknown) => {
      const known = error instanceof S3Error ? error : new S3Error(500, "InternalError");
      if (response.headersSent) return void response.destroy();
      response.writeHead(known.status, { "content-type": "application/xml" });
      response.end(`<Error><Code>${known.code}</Code><Message>${known.code}</Message></Error>`);
    });
  });
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  const address = server.address();
  const endpoint = `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`;
  return {
    endpoint,
    bucket: BUCKET,
    region: REGION,
    accessKeyId,
    secretAccessKey,
    env: {
      S3_ENDPOINT: endpoint,
      S3_BUCKET: BUCKET,
      S3_REGION: REGION,
      S3_ACCESS_KEY_ID: accessKeyId,
      S3_SECRET_ACCESS_KEY: secretAccessKey,
    },
    openUploads: () => [...uploads.values()].map(({ key }) => key),
    keys: () => [...objects.keys()].toSorted(),
    requests,
    fail: (next) => {
      fault = next;
    },
    close: async () => {
      server.closeAllConnections();
      server.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
};

const hmac = (key: string | Buffer, text: string): Buffer => createHmac("sha256", key).update(text).digest();
const sha256Hex = (text: string): string => createHash("sha256").update(text).digest("hex");
const encode = (text: string): string =>
  encodeURIComponent(text).replace(/[!'()*]/g, (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`);

type Credentials = { readonly accessKeyId: string; readonly secretAccessKey: string };

/** AWS Signature Version 4, authorization header: canonical request, string to sign, derived key. */
const assertSigned = (request: IncomingMessage, url: URL, { accessKeyId, secretAccessKey }: Credentials): void => {
  const [, keyId, scope = "", names = "", signature] =
    /^AWS4-HMAC-SHA256 Credential=([^/]+)\/([^,]+), ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})$/.exec(
      request.headers.authorization ?? "",
    ) ?? [];
  if (keyId !== accessKeyId) throw new S3Error(403, "InvalidAccessKeyId");
  const [date = "", region = "", service = ""] = scope.split("/");
  const at = String(request.headers["x-amz-date"]);
  if (region !== REGION || service !== "s3" || !at.startsWith(date)) throw new S3Error(403, "SignatureDoesNotMatch");
  const signed = names.split(";");
  if (!["host", "x-amz-date", "x-amz-content-sha256"].every((name) => signed.includes(name))) {
    throw new S3Error(403, "AccessDenied");
  }
  const query = [...url.searchParams]
    .map(([name, value]) => `${encode(name)}=${encode(value)}`)
    .toSorted()
    .join("&");
  const canonical = [
    request.method,
    url.pathname
      .split("/")
      .map((part) => encode(decodeURIComponent(part)))
      .join("/"),
    query,
    ...signed.map(
      (name) =>
        `${name}:${String(request.headers[name] ?? "")
          .trim()
          .replace(/ +/g, " ")}`,
    ),
    "",
    names,
    request.headers["x-amz-content-sha256"],
  ].join("\n");
  const key = ["s3", "aws4_request"].reduce<Buffer>(
    (from, text) => hmac(from, text),
    hmac(hmac(`AWS4${secretAccessKey}`, date), region),
  );
  const expected = hmac(key, ["AWS4-HMAC-SHA256", at, scope, sha256Hex(canonical)].join("\n")).toString("hex");
  if (expected !== signature) throw new S3Error(403, "SignatureDoesNotMatch");
};
