import { createHash, createHmac } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { givenSettings, openStream, startS3Server, startShaman, textMessage } from "@shaman/testkit";
import type { S3Server, Shaman, TestOrg } from "@shaman/testkit";
import { request } from "undici";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const agentFile = (name: string): string =>
  `---\nname: ${name}\ndescription: ${name} for tests\nexposed: true\ntools: [write_artifact]\nmodel: scripted/${name}.yaml\n---\nYou are ${name}.\n`;

const writer = (input: string): string => `turns:
  - match: {toolResult: {tool: write_artifact, output: {regex: "(?P<a>(?s:.*))"}}}
    text: ["Told: ", "{{a}}"]
  - toolCalls: [{name: write_artifact, input: ${input}}]
`;

const PNG = Buffer.concat([Buffer.from("89504e470d0a1a0a", "hex"), Buffer.alloc(3_000, 7)]);

const FILES = {
  "Writer.md": agentFile("Writer"),
  "Writer.yaml": writer(`{name: "bericht für Sie.md", mediaType: text/markdown, content: "{{prompt}}"}`),
  "Painter.md": agentFile("Painter"),
  "Painter.yaml": writer(
    `{name: chart.png, mediaType: image/png, encoding: base64, content: "${PNG.toString("base64")}"}`,
  ),
  "Liar.md": agentFile("Liar"),
  "Liar.yaml": writer(`{name: chart.png, mediaType: image/png, content: "<script>alert(1)</script>"}`),
  "Broken.md": agentFile("Broken"),
  "Broken.yaml": writer(`{name: chart.bin, encoding: base64, content: "not base64!"}`),
};

const CONTENT = Array.from({ length: 45_000 }, (_each, index) => `${index} ü`).join("\n");
const HASH = createHash("sha256").update(CONTENT).digest("hex");
const BYTES = Buffer.byteLength(CONTENT);

type Download = {
  readonly status: number;
  readonly headers: Record<string, string | string[] | undefined>;
  readonly body: Buffer;
};

let s3: S3Server;
beforeAll(async () => {
  s3 = await startS3Server();
});
afterAll(() => s3.close());

describe.each(["a folder", "S3"])("an artifact beyond the inline limit, in %s", (name) => {
  let shaman: Shaman;
  let org: TestOrg;
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "shaman-artifacts-"));
    shaman = await startShaman({ env: { ARTIFACT_DIR: folder, RETENTION_MS: "200", ...(name === "S3" && s3.env) } });
    org = await shaman.givenOrg(FILES);
  });
  afterAll(async () => {
    await shaman.close();
    await rm(folder, { recursive: true, force: true });
  });

  const send = async (agent: string, prompt: string, by: TestOrg = org) => {
    const answer = await shaman.rpc(by, { agent, method: "SendMessage", params: textMessage(prompt) });
    expect(answer.json.result?.task, answer.text).toBeDefined();
    return answer.json.result.task;
  };
  const storedPart = (task: { artifacts: { name: string; parts: { url?: string }[] }[] }) => {
    const part = task.artifacts.flatMap(({ parts }) => parts).find(({ url }) => url !== undefined);
    if (part?.url === undefined) throw new Error(`No stored part in ${JSON.stringify(task).slice(0, 1_000)}`);
    return { ...part, url: part.url };
  };
  /** As whoever has the address does: no key, the address's own host. */
  const download = async (
    url: string,
    options: { host?: string; headers?: object; method?: "GET" | "HEAD" } = {},
  ): Promise<Download> => {
    const { pathname, search, host } = new URL(url);
    const answer = await request(`${shaman.publicUrl}${pathname}${search}`, {
      method: options.method ?? "GET",
      headers: { host: options.host ?? host, ...options.headers },
    });
    const body = Buffer.from(await answer.body.arrayBuffer());
    return { status: answer.statusCode, headers: answer.headers, body };
  };

  it("is a part with an address, its size and hash, and downloads as it was written", async () => {
    const part = storedPart(await send("Writer", CONTENT));
    expect(part).toMatchObject({
      mediaType: "text/markdown",
      filename: "bericht für Sie.md",
      metadata: { "urn:shaman:a2a:stored:v1": { bytes: BYTES, sha256: HASH } },
      url: expect.stringMatching(
        `^http://${org.slug}\\.localhost:\\d+/a2a/v1/artifacts/art_\\w+\\?expires=\\d+&signature=`,
      ),
    });
    const { status, headers, body } = await download(part.url);
    expect(status).toBe(200);
    expect(String(body)).toBe(CONTENT);
    expect(headers).toMatchObject({
      "content-type": "text/markdown; charset=utf-8",
      "content-length": String(BYTES),
      "content-disposition": `attachment; filename="bericht f_r Sie.md"; filename*=UTF-8''bericht%20f%C3%BCr%20Sie.md`,
      "x-content-type-options": "nosniff",
      "content-security-policy": "sandbox; default-src 'none'",
      etag: `"${HASH}"`,
    });
  });

  it("has a fresh address in every answer and in the stream, and never the store's own name", async () => {
    const stream = await openStream(shaman, org, { agent: "Writer", params: textMessage(CONTENT) });
    const events = await stream.rest();
    const [update] = events.flatMap(({ result }) =>
      result.artifactUpdate?.artifact.parts[0].url === undefined ? [] : [result.artifactUpdate],
    );
    expect((await download(update.artifact.parts[0].url)).status).toBe(200);
    const { id } = events[0]?.result.task ?? {};
    const got = await shaman.rpc(org, { agent: "Writer", method: "GetTask", params: { id } });
    const polled = await shaman.http(org, { path: `/a2a/v1/tasks/${id}` });
    for (const task of [got.json.result, polled.json]) expect((await download(storedPart(task).url)).status).toBe(200);
    expect(JSON.stringify([events, got.json, polled.json])).not.toContain("urn:shaman:object");
  });

  it("is given in ranges, and not again to who has it", async () => {
    const { url } = storedPart(await send("Writer", CONTENT));
    const whole = Buffer.from(CONTENT);
    const ranges: readonly (readonly [string, number, number])[] = [
      ["bytes=0-0", 0, 1],
      ["bytes=100-299", 100, 300],
      [`bytes=${BYTES - 5}-`, BYTES - 5, BYTES],
      ["bytes=-7", BYTES - 7, BYTES],
      [`bytes=5-${BYTES * 2}`, 5, BYTES],
    ];
    for (const [range, from, to] of ranges) {
      const { status, headers, body } = await download(url, { headers: { range } });
      expect([status, body.equals(whole.subarray(from, to))], range).toEqual([206, true]);
      expect(headers["content-range"]).toBe(`bytes ${from}-${to - 1}/${BYTES}`);
    }
    expect(await download(url, { headers: { range: `bytes=${BYTES}-` } })).toMatchObject({
      status: 416,
      headers: { "content-range": `bytes */${BYTES}` },
    });
    for (const range of ["bytes=0-1,5-6", "lines=1-2", "bytes=9-3", "bytes=-", "nonsense"]) {
      expect((await download(url, { headers: { range } })).status, range).toBe(200);
    }
    const other = { range: "bytes=0-0", "if-range": '"other"' };
    expect((await download(url, { headers: other })).status).toBe(200);
    expect(await download(url, { headers: { "if-none-match": `"${HASH}"` } })).toMatchObject({ status: 304 });
    const head = await download(url, { method: "HEAD" });
    expect([head.status, head.headers["content-length"], head.body.length]).toEqual([200, String(BYTES), 0]);
  });

  it("is nowhere for another organization, another object, a changed or an old address, in one and the same words", async () => {
    const { url } = storedPart(await send("Writer", CONTENT));
    const stranger = await shaman.givenOrg(FILES);
    const theirs = storedPart(await send("Writer", CONTENT, stranger)).url;
    const objectOf = (address: string): string => new URL(address).pathname.split("/").at(-1) ?? "";
    const changed = (name_: string, value: string): string => {
      const next = new URL(url);
      next.searchParams.set(name_, value);
      return next.href;
    };
    const signature = new URL(url).searchParams.get("signature") ?? "";
    const flipped = `${signature.slice(0, -2)}${signature.at(-2) === "A" ? "B" : "A"}${signature.at(-1)}`;
    const forged = createHmac("sha256", "guess").update(url).digest("base64url");
    const attempts: readonly (readonly [string, string, { host?: string }?])[] = [
      ["their host", url, { host: stranger.host }],
      ["their object on our host", url.replace(objectOf(url), objectOf(theirs))],
      ["their address on our host", theirs, { host: org.host }],
      ["our address with their signature", changed("signature", new URL(theirs).searchParams.get("signature") ?? "")],
      ["a host of nobody", url, { host: "nobody.localhost" }],
      ["a flipped signature", changed("signature", flipped)],
      ["no signature", changed("signature", "")],
      ["a signature with an end", changed("signature", `${signature}.x`)],
      ["a signature with padding", changed("signature", `${signature}=`)],
      ["a forged signature", changed("signature", `test.${forged}`)],
      ["a key of nobody", changed("signature", `other.${signature.split(".")[1]}`)],
      ["a later end", changed("expires", String(Number(new URL(url).searchParams.get("expires")) + 1))],
      ["an end that is over", changed("expires", "1700000000")],
      ["another spelling of the end", changed("expires", `0${new URL(url).searchParams.get("expires")}`)],
      ["an object that is not there", url.replace(objectOf(url), `art_${"0".repeat(26)}`)],
      ["a way out of the folder", url.replace(objectOf(url), "..%2f..%2f..%2fetc%2fpasswd")],
    ];
    const bodies = new Set<string>();
    for (const [what, address, options] of attempts) {
      const { status, body } = await download(address, options);
      expect(status, what).toBe(404);
      const { error } = JSON.parse(String(body));
      bodies.add(JSON.stringify([error.code, error.status, error.message, error.details[0].reason]));
    }
    expect([...bodies]).toHaveLength(1);
    expect((await download(url)).status).toBe(200);
  });

  it("may be binary, when it is what it says", async () => {
    const small = await send("Painter", "paint");
    const artifact = small.artifacts.find((one: { name: string }) => one.name === "chart.png");
    expect(artifact.parts).toEqual([{ raw: PNG.toString("base64"), mediaType: "image/png", filename: "chart.png" }]);
    const other = await shaman.givenOrg(FILES);
    await givenSettings(shaman, other, { run: { artifactInlineBytes: 1_024 } });
    const { headers, body } = await download(storedPart(await send("Painter", "paint", other)).url);
    expect(body.equals(PNG)).toBe(true);
    expect(headers["content-type"]).toBe("image/png");
    expect(JSON.stringify(await send("Liar", "lie"))).toContain("does not fit its media type");
    expect(JSON.stringify(await send("Broken", "break"))).toContain("not valid base64");
  });

  it("ends the run with the limit's name when artifacts together are more than the organization allows", async () => {
    const limited = await shaman.givenOrg(FILES);
    await givenSettings(shaman, limited, { run: { artifactInlineBytes: 1_024, artifactTotalBytes: 2_048 } });
    const task = await send("Writer", "x".repeat(3_000), limited);
    expect(task.status.state).toBe("TASK_STATE_FAILED");
    expect(JSON.stringify(task.status.message)).toContain("artifactTotalBytes");
  });

  it("breaks off before its end when the store holds other content than was written", async () => {
    if (name !== "a folder") return;
    const own = await shaman.givenOrg(FILES);
    const { url } = storedPart(await send("Writer", CONTENT, own));
    const [row] = await shaman.database.inspect<{ key: string }>("SELECT key FROM stored_object WHERE org_id = $1", [
      own.orgId,
    ]);
    const content = Buffer.from(CONTENT);
    content[10] = (content[10] ?? 0) ^ 1;
    await writeFile(join(folder, row?.key ?? ""), content);
    await expect(download(url)).rejects.toThrow();
  });

  it("is deleted by the worker once its organization keeps it no longer, and the task says so", async () => {
    const own = await shaman.givenOrg(FILES);
    await givenSettings(shaman, own, { retention: { artifactDays: 1 } });
    const task = await send("Writer", CONTENT, own);
    const { url } = storedPart(task);
    const objects = (): Promise<unknown[]> =>
      shaman.database.inspect("SELECT FROM stored_object WHERE org_id = $1", [own.orgId]);
    expect(await objects()).toHaveLength(1);
    const older = "UPDATE run SET finished_at = now() - interval '25 hours' WHERE org_id = $1";
    await shaman.database.inspect(older, [own.orgId]);
    await expect.poll(objects, { timeout: 20_000 }).toEqual([]);
    expect((await download(url)).status).toBe(404);
    const read = await shaman.rpc(own, { agent: "Writer", method: "GetTask", params: { id: task.id } });
    const metadata = { "urn:shaman:a2a:stored:v1": { expired: true, expiredAt: expect.any(String) } };
    expect(read.json.result.artifacts[0].parts).toMatchObject([{ metadata }]);
    if (name === "S3") expect(s3.keys().filter((key) => key.startsWith(own.orgId))).toEqual([]);
  });

  it("shows in the public server's health when it cannot be used, and keeps no caller away", async () => {
    if (name !== "S3") return;
    const read = async (path: string) => {
      const { statusCode, body } = await request(`${shaman.publicUrl}${path}`);
      return { statusCode, body: await body.json() };
    };
    expect(await read("/health")).toMatchObject({ body: { status: "ok" } });
    s3.fail({ method: "GET", status: 403, code: "AccessDenied", times: 1_000 });
    const degraded = {
      status: "degraded",
      checks: [
        { name: "database", ok: true },
        { name: "storage", ok: false },
      ],
    };
    // What can be done without is looked at now and then only.
    await expect.poll(() => read("/health"), { timeout: 30_000 }).toMatchObject({ body: degraded });
    const ready = await read("/ready");
    s3.fail({ method: "GET", status: 403, code: "", times: 0 });
    expect(ready).toMatchObject({ statusCode: 200, body: { ready: true } });
  });

  it("fails clearly, after the attempts that the agent has, when the store is full", async () => {
    if (name !== "S3") return;
    s3.fail({ method: "PUT", status: 507, code: "XMinioStorageFull", times: 1_000 });
    const own = await shaman.givenOrg(FILES);
    await givenSettings(shaman, own, { retry: { maxAttempts: 2, backoffSeconds: 0.1 } });
    const task = await send("Writer", CONTENT, own);
    s3.fail({ method: "PUT", status: 507, code: "", times: 0 });
    expect(task.status.state).toBe("TASK_STATE_FAILED");
    expect(task.status.message.parts[0].text).toBe("An artifact could not be kept. The store for artifacts is full.");
    expect((await send("Writer", CONTENT, own)).status.state).toBe("TASK_STATE_COMPLETED");
  });
});
