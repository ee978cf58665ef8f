import { randomBytes } from "node:crypto";
import { Secret, systemClock } from "@shaman/kernel";
import { openRedis } from "@shaman/queue";
import { startRedis, testDatabase, type TestDatabase } from "@shaman/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createPostgresJtiStore, createRedisJtiStore, deleteExpiredJtis } from "./jti-store.ts";

let database: TestDatabase;

beforeAll(async () => {
  database = await testDatabase();
});
afterAll(() => database.close());

const newJti = (): string => randomBytes(18).toString("base64url");

describe("used token ids in PostgreSQL", () => {
  test("are fresh once, over several instances at once", async () => {
    const stores = [1, 2, 3].map(() => createPostgresJtiStore({ db: database.as("internal") }));
    const jti = newJti();
    const uses = await Promise.all(
      stores.flatMap((use) => Array.from({ length: 10 }, () => use({ jti, expiresAtMs: Date.now() + 1_000 }))),
    );
    expect(uses.filter((use) => use === "fresh")).toHaveLength(1);
    expect(uses.filter((use) => use === "used")).toHaveLength(29);
  });

  test("are removed once expired, in batches, and not before", async () => {
    const use = createPostgresJtiStore({ db: database.as("internal") });
    const live = newJti();
    await use({ jti: live, expiresAtMs: Date.now() + 60_000 });
    for (let n = 0; n < 25; n += 1) await use({ jti: newJti(), expiresAtMs: Date.now() - 1 });
    for (const role of ["internal", "worker"] as const) {
      const deleted = await deleteExpiredJtis({ db: database.as(role), clock: systemClock }, { batchRows: 10 });
      expect(deleted).toBe(role === "internal" ? 25 : 0);
    }
    expect(await use({ jti: live, expiresAtMs: Date.now() + 60_000 })).toBe("used");
  });

  test("cannot be written by the public process", async () => {
    const use = createPostgresJtiStore({ db: database.as("public") });
    await expect(use({ jti: newJti(), expiresAtMs: Date.now() })).rejects.toThrow(/permission denied/);
  });
});

describe("used token ids in Redis", () => {
  test("are fresh once, expire by themselves, and cannot be told while Redis is away", async () => {
    const server = await startRedis();
    const open = (name: string, patient: boolean) =>
      openRedis({ url: new Secret(server.url), name, patient, onError: () => undefined });
    const clients = [open("one", true), open("two", true)];
    const stores = clients.map((redis) => createRedisJtiStore({ redis, clock: systemClock }));
    const jti = newJti();
    const expiresAtMs = Date.now() + 60_000;
    const uses = await Promise.all(
      stores.flatMap((use) => Array.from({ length: 10 }, () => use({ jti, expiresAtMs }))),
    );
    expect(uses.filter((use) => use === "fresh")).toHaveLength(1);
    const ttl = await clients[0]?.ttl(`shaman:jti:${jti}`);
    expect(ttl).toBeGreaterThan(50);
    expect(ttl).toBeLessThanOrEqual(60);

    await server.kill();
    const impatient = open("three", false);
    await expect(createRedisJtiStore({ redis: impatient, clock: systemClock })({ jti, expiresAtMs })).rejects.toThrow();
    for (const redis of [...clients, impatient]) redis.disconnect();
    await server.close();
  });
});
