import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { newId, Secret } from "@shaman/kernel";
import { heldMegabytes, startS3Server, type S3Server } from "@shaman/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createFolderStore } from "./folder-store.ts";
import { objectKey } from "./object-key.ts";
import type { ObjectStore } from "./object-store.ts";
import { createS3Store } from "./s3-store.ts";

const opened = new Map<string, ObjectStore>();
let folder: string;
let s3: S3Server;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "shaman-objects-"));
  s3 = await startS3Server();
  const { bucket, region, accessKeyId } = s3;
  const endpoint = new URL(s3.endpoint);
  const secretAccessKey = new Secret(s3.secretAccessKey);
  opened.set("folder", createFolderStore({ folder }));
  opened.set(
    "S3",
    createS3Store({ kind: "s3", endpoint, bucket, region, accessKeyId, secretAccessKey, pathStyle: true }),
  );
});
afterAll(async () => {
  for (const store of opened.values()) await store.close();
  await s3.close();
  await rm(folder, { recursive: true, force: true });
});

const place = () => ({ orgId: newId("org"), runId: newId("run"), taskId: newId("task") });
const keyIn = (at: ReturnType<typeof place>, artifactId = "artifact-1"): string =>
  objectKey({ ...at, artifactId, objectId: newId("art") });
const newKey = (): string => keyIn(place());

async function* piecesOf(bytes: Uint8Array, size = 60_000): AsyncGenerator<Uint8Array, void, undefined> {
  for (let from = 0; from < bytes.byteLength; from += size) yield bytes.subarray(from, from + size);
}

const read = async (store: ObjectStore, key: string, range?: { first: number; last: number }): Promise<Buffer> => {
  const found = await store.get(key, range === undefined ? {} : { range });
  if (found === undefined) throw new Error(`There is no ${key}`);
  const chunks: Uint8Array[] = [];
  for await (const chunk of found.content) chunks.push(chunk);
  return Buffer.concat(chunks);
};

const storeOf = (name: string): ObjectStore => {
  const store = opened.get(name);
  if (store === undefined) throw new Error(`There is no store ${name}`);
  return store;
};

describe.each(["folder", "S3"])("an object store (%s)", (name) => {
  test.each([0, 1, 5 * 1024 * 1024, 12_345_678])(
    "gives %i bytes back as they came, and says their hash",
    async (size) => {
      const store = storeOf(name);
      const [key, content] = [newKey(), randomBytes(size)];
      const sha256 = createHash("sha256").update(content).digest("hex");
      expect(await store.put(key, piecesOf(content))).toEqual({ bytes: size, sha256 });
      expect(await store.find(key)).toEqual({ key, bytes: size });
      expect((await read(store, key)).equals(content)).toBe(true);
      if (size > 100) {
        const range = { first: 17, last: 99 };
        expect((await read(store, key, range)).equals(content.subarray(17, 100))).toBe(true);
        expect((await store.get(key, { range }))?.bytes).toBe(size);
      }
    },
  );

  test("replaces an object as a whole", async () => {
    const store = storeOf(name);
    const key = newKey();
    await store.put(key, piecesOf(randomBytes(7_000_000)));
    await store.put(key, piecesOf(Buffer.from("second")));
    expect(String(await read(store, key))).toBe("second");
  });

  test("knows nothing of a key that was never written, and deletes it without complaint", async () => {
    const store = storeOf(name);
    const key = newKey();
    expect(await store.get(key)).toBeUndefined();
    expect(await store.find(key)).toBeUndefined();
    await store.delete(key);
    expect(await store.list(`${key.split("/")[0]}/`, { limit: 10 })).toEqual([]);
  });

  test("keeps what was there, and nothing else, when the content breaks off or the writer gives up", async () => {
    const store = storeOf(name);
    const key = newKey();
    await store.put(key, piecesOf(Buffer.from("kept")));
    const broken = async function* (): AsyncGenerator<Uint8Array> {
      yield* piecesOf(randomBytes(11_000_000));
      throw new Error("broke off");
    };
    await expect(store.put(key, broken())).rejects.toThrow("broke off");
    const stop = new AbortController();
    const stopped = async function* (): AsyncGenerator<Uint8Array> {
      yield* piecesOf(randomBytes(6_000_000));
      stop.abort(new Error("lease lost"));
      yield randomBytes(10);
    };
    await expect(store.put(key, stopped(), { signal: stop.signal })).rejects.toThrow("lease lost");
    expect(String(await read(store, key))).toBe("kept");
    expect(s3.openUploads()).toEqual([]);
    expect((await readdir(folder, { recursive: true })).filter((file) => file.endsWith(".part"))).toEqual([]);
  });

  test("lists an organization's, a run's and a task's objects in order, page by page, and nobody else's", async () => {
    const store = storeOf(name);
    const here = place();
    const sameRun = { ...here, taskId: newId("task") };
    const otherRun = { ...sameRun, runId: newId("run") };
    const keys = [keyIn(here, "a"), keyIn(here, "b"), keyIn(sameRun), keyIn(otherRun)].toSorted();
    for (const key of [...keys, newKey()]) await store.put(key, piecesOf(Buffer.from(key)));
    const all = await store.list(`${here.orgId}/`, { limit: 10 });
    expect(all).toEqual(keys.map((key) => ({ key, bytes: key.length })));
    const first = await store.list(`${here.orgId}/`, { limit: 3 });
    const rest = await store.list(`${here.orgId}/`, { limit: 3, after: first.at(-1)?.key ?? "" });
    expect([...first, ...rest]).toEqual(all);
    expect(await store.list(`${here.orgId}/${here.runId}/`, { limit: 10 })).toHaveLength(3);
    expect(await store.list(`${here.orgId}/${here.runId}/${here.taskId}/`, { limit: 10 })).toHaveLength(2);
    await store.delete(keys[0] ?? "");
    expect(await store.list(`${here.orgId}/`, { limit: 10 })).toHaveLength(3);
  });

  test("takes no name that could lead anywhere else", async () => {
    const store = storeOf(name);
    const { orgId, runId, taskId } = place();
    const names = ["..", "../x", "a/b", ".", "", "a.b", "a\0b", "%2e%2e", "a\\b", " ", "é", "x".repeat(200)];
    const keys = [
      ...names.map((bad) => `${orgId}/${runId}/${taskId}/${bad}`),
      ...names.map((bad) => `${orgId}/${bad}/${taskId}/x`),
      `/${orgId}/${runId}/${taskId}/x`,
      `${orgId}/${runId}/${taskId}/x/y`,
      `${orgId}/${runId}/x`,
      "/etc/passwd",
    ];
    for (const key of keys) {
      await expect(store.put(key, piecesOf(Buffer.from("x"))), key).rejects.toMatchObject({
        code: "object_key_invalid",
      });
      await expect(store.get(key), key).rejects.toMatchObject({ code: "object_key_invalid" });
      await expect(store.delete(key), key).rejects.toMatchObject({ code: "object_key_invalid" });
      await expect(store.find(key), key).rejects.toMatchObject({ code: "object_key_invalid" });
    }
    for (const prefix of ["", "/", "../", "org_a", "org_a/../", "org_a/run_b/task_c/d", `${orgId}/../`]) {
      await expect(store.list(prefix, { limit: 1 }), prefix).rejects.toMatchObject({ code: "object_key_invalid" });
    }
  });

  test("writes many objects of one task at once", async () => {
    const store = storeOf(name);
    const here = place();
    const keys = Array.from({ length: 30 }, (_each, index) => keyIn(here, `artifact-${index}`));
    await Promise.all(keys.map((key) => store.put(key, piecesOf(Buffer.from(key)))));
    await Promise.all(keys.map((key) => store.delete(key)));
    expect(await store.list(`${here.orgId}/`, { limit: 100 })).toEqual([]);
  });

  test("holds a few megabytes at most while a large object passes in and out", async () => {
    const store = storeOf(name);
    const [key, piece, count] = [newKey(), randomBytes(1_000_000), 150];
    let most = 0;
    const before = heldMegabytes();
    const content = async function* (): AsyncGenerator<Uint8Array> {
      for (let sent = 0; sent < count; sent += 1) {
        if (sent % 10 === 0) most = Math.max(most, heldMegabytes() - before);
        yield piece;
      }
    };
    await store.put(key, content());
    let bytes = 0;
    for await (const chunk of (await store.get(key))?.content ?? []) {
      const last = Math.floor(bytes / 10_000_000);
      bytes += chunk.byteLength;
      if (Math.floor(bytes / 10_000_000) > last) most = Math.max(most, heldMegabytes() - before);
    }
    expect(bytes).toBe(count * 1_000_000);
    expect(most).toBeLessThan(40);
    await store.delete(key);
  });
});

test("an artifact id is in the key by its hash only", () => {
  const key = objectKey({ ...place(), artifactId: "../../../etc/passwd", objectId: newId("art") });
  expect(key).toMatch(/^org_\w+\/run_\w+\/task_\w+\/[0-9a-f]{24}-art_\w+$/);
});
