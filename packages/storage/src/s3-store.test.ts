import { randomBytes } from "node:crypto";
import { newId, Secret } from "@shaman/kernel";
import { startS3Server, type S3Server } from "@shaman/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { S3Config } from "./config.ts";
import { objectKey } from "./object-key.ts";
import type { ObjectStore } from "./object-store.ts";
import { createS3Store } from "./s3-store.ts";

let server: S3Server;
const stores: ObjectStore[] = [];
beforeAll(async () => {
  server = await startS3Server();
});
afterAll(async () => {
  for (const store of stores) await store.close();
  await server.close();
});

const givenStore = (change: Partial<S3Config> = {}): ObjectStore => {
  const { bucket, region, accessKeyId } = server;
  const secretAccessKey = new Secret(server.secretAccessKey);
  const endpoint = new URL(server.endpoint);
  const store = createS3Store({
    kind: "s3",
    endpoint,
    bucket,
    region,
    accessKeyId,
    secretAccessKey,
    pathStyle: true,
    ...change,
  });
  stores.push(store);
  return store;
};

const newKey = (): string =>
  objectKey({
    orgId: newId("org"),
    runId: newId("run"),
    taskId: newId("task"),
    artifactId: "a",
    objectId: newId("art"),
  });

async function* content(bytes: number): AsyncGenerator<Uint8Array> {
  yield randomBytes(bytes);
}

test("a fault that passes is waited out, in the middle of an upload too", async () => {
  const [store, key] = [givenStore(), newKey()];
  server.fail({ method: "PUT", status: 503, code: "SlowDown", times: 2 });
  await store.put(key, content(6_000_000));
  expect(await store.find(key)).toMatchObject({ bytes: 6_000_000 });
});

test("a fault that stays is told, and nothing of the upload is left", async () => {
  const [store, key] = [givenStore(), newKey()];
  server.fail({ method: "PUT", status: 500, code: "InternalError", times: 3 });
  await expect(store.put(key, content(6_000_000))).rejects.toMatchObject({ code: "storage_unavailable" });
  server.fail({ method: "PUT", status: 500, code: "InternalError", times: 0 });
  expect(await store.find(key)).toBeUndefined();
  expect(server.openUploads()).toEqual([]);
});

test("a full store is told as full, and not tried again", async () => {
  const [store, key] = [givenStore(), newKey()];
  server.fail({ method: "PUT", status: 507, code: "XMinioStorageFull", times: 1 });
  await expect(store.put(key, content(10))).rejects.toMatchObject({ code: "storage_full", kind: "operational" });
});

test("a wrong secret, key or bucket is told as what it is", async () => {
  const wrong = [
    { secretAccessKey: new Secret("guessed") },
    { accessKeyId: "AKnobody" },
    { region: "elsewhere-1" },
    { bucket: "another" },
  ];
  for (const change of wrong) {
    const store = givenStore(change);
    await expect(store.check(), Object.keys(change)[0]).rejects.toMatchObject({ code: "storage_denied" });
    await expect(store.put(newKey(), content(5)), Object.keys(change)[0]).rejects.toMatchObject({
      code: "storage_denied",
    });
  }
  await givenStore().check();
});

test("a store that nobody answers for is told as away, and waiting for it can be given up", async () => {
  const store = givenStore({ endpoint: new URL("http://127.0.0.1:9") });
  await expect(store.check()).rejects.toMatchObject({ code: "storage_unavailable" });
  const stop = new AbortController();
  const found = store.find(newKey(), { signal: stop.signal });
  stop.abort(new Error("enough"));
  await expect(found).rejects.toThrow("enough");
});

test("an upload that a killed process left open is taken back with its object", async () => {
  const [store, key] = [givenStore(), newKey()];
  const never = async function* (): AsyncGenerator<Uint8Array> {
    yield randomBytes(6_000_000);
    await new Promise(() => undefined);
  };
  void store.put(key, never());
  await expect.poll(() => server.openUploads()).toEqual([key]);
  await givenStore().delete(key);
  expect(server.openUploads()).toEqual([]);
});
