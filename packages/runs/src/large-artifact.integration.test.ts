import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AppError, type JsonObject } from "@shaman/kernel";
import { createFolderStore, type ObjectStore } from "@shaman/storage";
import {
  acceptTestRun,
  findBrokenPromises,
  heldMegabytes,
  testDatabase,
  type TestDatabase,
  QUIET_FAN_OUT,
} from "@shaman/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";
import { splitChunk } from "./artifact-piece.ts";
import type { ArtifactPayload } from "./events.ts";
import { claimRun, type LeasedRun } from "./lease.ts";
import { createRunRecorder, type RunRecorder } from "./run-recorder.ts";
import { storedObjectId } from "./stored-part.ts";
import { collectObjects } from "./collect-objects.ts";
import { emptyTexts } from "./empty-texts.ts";
import { expireArtifacts } from "./expire-artifacts.ts";
import { findStoredObject } from "./stored-object.ts";
import { findTask, type TaskView } from "./task-view.ts";

let database: TestDatabase;
let orgId: string;
let folder: string;
let store: ObjectStore;
beforeAll(async () => {
  database = await testDatabase();
  ({ orgId } = await database.givenOrg());
  folder = await mkdtemp(join(tmpdir(), "shaman-large-"));
  store = createFolderStore({ folder });
});
afterAll(async () => {
  await database.close();
  await rm(folder, { recursive: true, force: true });
});

const INLINE_BYTES = 100_000;
const givenRun = async (): Promise<string> => (await acceptTestRun(database, { orgId })).runId;

const claim = async (runId: string, leaseMs = 60_000): Promise<LeasedRun> => {
  const run = await claimRun(database.as("worker"), { orgId, runId, leaseMs, worker: "w" });
  if (run === undefined) throw new Error("The run could not be claimed");
  return run;
};

type Scene = { readonly run: LeasedRun; readonly recorder: RunRecorder };

const recorderOf = (
  run: LeasedRun,
  options: { readonly store?: ObjectStore; readonly totalBytes?: number } = {},
): Scene => {
  const limits = { inlineBytes: INLINE_BYTES, totalBytes: options.totalBytes ?? 100_000_000 };
  const deps = { db: database.as("worker"), fanOut: QUIET_FAN_OUT };
  const artifacts = { store: options.store ?? store, limits };
  return { run, recorder: createRunRecorder(deps, run, { coalesceMs: 0, coalesceBytes: 8_192, artifacts }) };
};

const given = async (options: Parameters<typeof recorderOf>[1] = {}): Promise<Scene> =>
  recorderOf(await claim(await givenRun()), options);

const chunkOf = (
  artifactId: string,
  parts: readonly JsonObject[],
  rest: Partial<ArtifactPayload> = {},
): ArtifactPayload => ({
  artifactId,
  parts: [...parts],
  append: false,
  lastChunk: true,
  ...rest,
});

/** Sends an artifact the way the internal server does: in pieces, each taken before the next. */
const send = async ({ run, recorder }: Scene, chunk: ArtifactPayload): Promise<void> => {
  for (const piece of splitChunk(chunk)) await recorder.artifact(run.rootTaskId, piece);
};

const finish = async ({ run, recorder }: Scene): Promise<TaskView> => {
  recorder.status({ taskId: run.rootTaskId, state: "completed" });
  await recorder.finish({ kind: "finished", state: "completed" });
  return viewOf(run);
};

const viewOf = async (run: LeasedRun): Promise<TaskView> => {
  const task = await findTask(database.as("public"), { orgId, taskId: run.rootTaskId });
  if (task === undefined) throw new Error("The task is gone");
  return task;
};

const objectsOf = (run: LeasedRun) =>
  database.inspect<{ id: string; key: string; bytes: string; sha256: string; media_type: string; state: string }>(
    "SELECT id, key, bytes, sha256, media_type, state FROM stored_object WHERE run_id = $1 ORDER BY id",
    [run.runId],
  );

const artifactEvents = (run: LeasedRun) =>
  database.inspect<{ payload: ArtifactPayload }>(
    "SELECT payload FROM run_event WHERE run_id = $1 AND type = 'task.artifact' ORDER BY seq",
    [run.runId],
  );

const contentOf = async (key: string): Promise<Buffer> => {
  const chunks: Uint8Array[] = [];
  for await (const chunk of (await store.get(key))?.content ?? []) chunks.push(chunk);
  return Buffer.concat(chunks);
};

test("an artifact beyond the inline limit lies in the store, and its row and event hold a reference", async () => {
  const scene = await given();
  const content = randomBytes(700_000);
  const raw = content.toString("base64");
  await send(
    scene,
    chunkOf("scan", [{ raw, mediaType: "application/x-scan", filename: "scan.bin" }], { name: "scan" }),
  );
  const { artifacts } = await finish(scene);
  const [object] = await objectsOf(scene.run);
  const sha256 = createHash("sha256").update(content).digest("hex");
  expect(object).toMatchObject({ bytes: "700000", sha256, media_type: "application/x-scan" });
  expect((await contentOf(object?.key ?? "")).equals(content)).toBe(true);
  expect(object?.key).toMatch(`${orgId}/${scene.run.runId}/${scene.run.rootTaskId}/`);
  const url = `urn:shaman:object:${object?.id}`;
  const metadata = { "urn:shaman:a2a:stored:v1": { bytes: 700_000, sha256 } };
  const part = { url, mediaType: "application/x-scan", filename: "scan.bin", metadata };
  expect(artifacts).toEqual([{ artifactId: "scan", name: "scan", description: null, metadata: null, parts: [part] }]);
  const events = await artifactEvents(scene.run);
  expect(events.map(({ payload }) => payload)).toMatchObject([{ parts: [part], append: false, lastChunk: true }]);
  const [row] = await database.inspect("SELECT bytes FROM artifact WHERE run_id = $1", [scene.run.runId]);
  expect(row).toEqual({ bytes: "700000" });
  expect(await findBrokenPromises(database, orgId)).toEqual(
    expect.not.arrayContaining([expect.stringContaining("artifacts are what the events add up to")]),
  );
});

test("an artifact that came in pieces and fits is whole in its row, and one event", async () => {
  const scene = await given();
  const text = "é".repeat(INLINE_BYTES / 2);
  await send(scene, chunkOf("note", [{ text, mediaType: "text/markdown", filename: "note.md" }]));
  const { artifacts } = await finish(scene);
  expect(artifacts[0]?.parts).toEqual([{ text, mediaType: "text/markdown", filename: "note.md" }]);
  expect(await artifactEvents(scene.run)).toHaveLength(1);
  expect(await objectsOf(scene.run)).toEqual([]);
});

test("one byte more than the inline limit goes to the store", async () => {
  const scene = await given();
  await send(scene, chunkOf("fits", [{ text: "x".repeat(INLINE_BYTES) }]));
  await send(scene, chunkOf("does not", [{ text: "x".repeat(INLINE_BYTES + 1) }]));
  const { artifacts } = await finish(scene);
  expect(artifacts.map(({ parts }) => Object.keys(parts[0] ?? {})[0])).toEqual(["text", "url"]);
});

test("streamed text that outgrows the limit is told as it comes, then replaced by its reference", async () => {
  const scene = await given();
  const { run, recorder } = scene;
  const pieces = Array.from({ length: 30 }, (_each, index) => `${index} `.padEnd(5_000, "text "));
  for (const [index, text] of pieces.entries()) {
    await recorder.artifact(run.rootTaskId, chunkOf("response", [{ text }], { append: index > 0, lastChunk: false }));
  }
  await recorder.artifact(run.rootTaskId, chunkOf("response", [{ text: "" }], { append: true }));
  const { artifacts } = await finish(scene);
  const events = (await artifactEvents(run)).map(({ payload }) => payload);
  expect(events).toHaveLength(INLINE_BYTES / 5_000 + 1);
  expect(events.at(-1)).toMatchObject({ append: false, lastChunk: true });
  expect(artifacts[0]?.parts).toEqual(events.at(-1)?.parts);
  const [object] = await objectsOf(run);
  expect(String(await contentOf(object?.key ?? ""))).toBe(pieces.join(""));
  expect(object?.media_type).toBe("text/plain");
});

test("of several parts those go to the store that no longer fit, in their order", async () => {
  const scene = await given();
  const data = { rows: Array.from({ length: 20_000 }, (_each, index) => index) };
  const parts = [{ text: "summary" }, { data, mediaType: "application/json" }, { text: "end", metadata: { a: 1 } }];
  await send(scene, chunkOf("report", parts));
  const { artifacts } = await finish(scene);
  expect(artifacts[0]?.parts.map((part) => Object.keys(part)[0])).toEqual(["text", "url", "text"]);
  const [object] = await objectsOf(scene.run);
  expect(JSON.parse(String(await contentOf(object?.key ?? "")))).toEqual(data);
});

test("what is declared as something that its content is not is stored as bytes of no type", async () => {
  const scene = await given();
  const text = `<!doctype html><script>steal()</script>${" ".repeat(INLINE_BYTES)}`;
  await send(scene, chunkOf("page", [{ text, mediaType: "image/png" }]));
  await finish(scene);
  expect((await objectsOf(scene.run))[0]?.media_type).toBe("application/octet-stream");
});

test("memory holds a small part of a large artifact while it passes", async () => {
  const scene = await given();
  const piece = randomBytes(48_000).toString("base64");
  const mark = (position: string) => ({ raw: piece, metadata: { "urn:shaman:a2a:piece:v1": position } });
  const before = heldMegabytes();
  let most = 0;
  const count = 1_250;
  for (let sent = 0; sent < count; sent += 1) {
    const position = sent === 0 ? "first" : sent === count - 1 ? "last" : "next";
    const chunk = chunkOf("film", [mark(position)], { append: sent > 0, lastChunk: sent === count - 1 });
    await scene.recorder.artifact(scene.run.rootTaskId, chunk);
    if (sent % 50 === 0) most = Math.max(most, heldMegabytes() - before);
  }
  await finish(scene);
  expect((await objectsOf(scene.run))[0]?.bytes).toBe("60000000");
  expect(most).toBeLessThan(20);
});

/** A store that writes nothing before it is let. */
const gated = () => {
  const gate = Promise.withResolvers<void>();
  const waiting: ObjectStore = {
    ...store,
    put: async (key, content, options) => {
      const held = async function* (): AsyncGenerator<Uint8Array> {
        yield* content;
        await gate.promise;
        options?.signal?.throwIfAborted();
      };
      return store.put(key, held(), options);
    },
  };
  return { store: waiting, open: gate.resolve };
};

test("nothing says that an artifact is there before its content is safe", async () => {
  const gate = gated();
  const scene = await given({ store: gate.store });
  const { run, recorder } = scene;
  const storing = recorder.artifact(run.rootTaskId, chunkOf("large", [{ text: "x".repeat(INLINE_BYTES + 1) }]));
  expect(storing).toBeInstanceOf(Promise);
  recorder.event(run.rootTaskId, { type: "run.retry", payload: { attempt: 1, code: "c", message: "m", retryAt: "t" } });
  await expect.poll(() => database.inspect("SELECT FROM run_event WHERE run_id = $1", [run.runId])).toHaveLength(2);
  expect(await artifactEvents(run)).toEqual([]);
  expect(await database.inspect("SELECT FROM artifact WHERE run_id = $1", [run.runId])).toEqual([]);
  gate.open();
  await storing;
  await finish(scene);
  expect(await artifactEvents(run)).toHaveLength(1);
});

test("a worker that stops in between leaves a row that knows of the object, and no artifact", async () => {
  const gate = gated();
  const scene = await given({ store: gate.store });
  const { run, recorder } = scene;
  const storing = recorder.artifact(run.rootTaskId, chunkOf("large", [{ text: "x".repeat(INLINE_BYTES + 1) }]));
  const failed = expect(storing).rejects.toThrow();
  await expect.poll(() => objectsOf(run)).toHaveLength(1);
  recorder.abandon();
  gate.open();
  await failed;
  expect(await objectsOf(run)).toMatchObject([{ state: "pending", bytes: null }]);
  expect(await store.list(`${orgId}/${run.runId}/`, { limit: 1 })).toEqual([]);
  expect(await database.inspect("SELECT FROM artifact WHERE run_id = $1", [run.runId])).toEqual([]);
});

test("the next attempt writes an object of its own, so that a late one can change nothing", async () => {
  const runId = await givenRun();
  const late = gated();
  const first = recorderOf(await claim(runId, 1), { store: late.store });
  const storing = first.recorder.artifact(first.run.rootTaskId, chunkOf("a", [{ text: "1".repeat(INLINE_BYTES + 1) }]));
  await expect.poll(() => objectsOf(first.run)).toHaveLength(1);
  const second = recorderOf(await claim(runId));
  await send(second, chunkOf("a", [{ text: "2".repeat(INLINE_BYTES + 1) }]));
  const { artifacts } = await finish(second);
  late.open();
  await storing;
  const kept = storedObjectId(artifacts[0]?.parts[0] ?? {});
  const object = (await objectsOf(second.run)).find(({ id }) => id === kept);
  expect(String(await contentOf(object?.key ?? "")).slice(0, 3)).toBe("222");
  expect(await objectsOf(second.run)).toHaveLength(2);
});

test("an artifact that is begun again has the second content alone", async () => {
  const scene = await given();
  const { run, recorder } = scene;
  const text = "1".repeat(INLINE_BYTES + 1);
  await recorder.artifact(run.rootTaskId, chunkOf("a", [{ text }], { lastChunk: false }));
  await send(scene, chunkOf("a", [{ text: text.replaceAll("1", "2") }]));
  const { artifacts } = await finish(scene);
  const kept = storedObjectId(artifacts[0]?.parts[0] ?? {});
  const object = (await objectsOf(run)).find(({ id }) => id === kept);
  expect(new Set(String(await contentOf(object?.key ?? "")))).toEqual(new Set("2"));
});

test("all artifacts of a run together stay below the organization's limit, an earlier attempt's counted", async () => {
  const runId = await givenRun();
  const totalBytes = 500_000;
  const first = recorderOf(await claim(runId), { totalBytes });
  await send(first, chunkOf("one", [{ text: "x".repeat(300_000) }]));
  await first.recorder.finish({ kind: "parked", retryAt: new Date(0), counts: "nothing" });
  const second = recorderOf(await claim(runId), { totalBytes });
  await send(second, chunkOf("two", [{ text: "x".repeat(150_000) }]));
  await expect(send(second, chunkOf("three", [{ text: "x".repeat(150_000) }]))).rejects.toMatchObject({
    code: "limit_reached",
    message: expect.stringContaining("artifactTotalBytes"),
  });
});

test("a store that fails is told with its own code", async () => {
  const failing: ObjectStore = {
    ...store,
    put: () => Promise.reject(new AppError({ code: "storage_full", kind: "operational", message: "full" })),
  };
  const scene = await given({ store: failing });
  await expect(send(scene, chunkOf("a", [{ text: "x".repeat(3_000_000) }]))).rejects.toMatchObject({
    code: "storage_full",
  });
});

test("an agent cannot name an object of the store as a part of its own", async () => {
  const scene = await given();
  await send(
    scene,
    chunkOf("a", [{ url: "urn:shaman:object:art_somebody-elses" }, { text: "x".repeat(INLINE_BYTES + 1) }]),
  );
  await send(scene, chunkOf("b", [{ url: "urn:shaman:object:art_somebody-elses" }]));
  const { artifacts } = await finish(scene);
  expect(JSON.stringify(artifacts)).not.toContain("somebody-elses");
  expect(JSON.stringify(await artifactEvents(scene.run))).not.toContain("somebody-elses");
});

const LARGE = "x".repeat(INLINE_BYTES + 1);
const signal = AbortSignal.timeout(600_000);
const collect = (settledMinutes: number) =>
  collectObjects({ db: database.as("worker"), store }, { signal, settledMinutes });
const endedDaysAgo = (run: LeasedRun, days: number) =>
  database.inspect("UPDATE run SET finished_at = now() - $2 * interval '1 day' WHERE id = $1", [run.runId, days]);
const expire = (days: number) => expireArtifacts({ db: database.as("worker") }, { orgId, days });

test("artifacts older than the organization keeps them are deleted with their objects, on record, and the task says so", async () => {
  const [old, young] = [await given(), await given()];
  for (const scene of [old, young]) {
    await send(scene, chunkOf("large", [{ text: LARGE }], { name: "large.txt" }));
    await send(scene, chunkOf("small", [{ text: "secret" }]));
    await finish(scene);
  }
  const [object] = await objectsOf(old.run);
  await endedDaysAgo(old.run, 31);
  await endedDaysAgo(young.run, 29);
  expect(await expire(30)).toBe(1);
  expect(await expire(30)).toBe(0);
  const query = { orgId, objectId: object?.id ?? "" };
  expect(await findStoredObject(database.as("public"), query)).toBeUndefined();
  await collect(60);
  expect(await store.find(object?.key ?? "")).toBeUndefined();
  expect(await objectsOf(old.run)).toEqual([]);
  const { artifacts } = await viewOf(old.run);
  expect(artifacts.map(({ artifactId, parts }) => [artifactId, parts[0]?.metadata])).toEqual(
    ["large", "small"].map((id) => [
      id,
      { "urn:shaman:a2a:stored:v1": { expired: true, expiredAt: expect.any(String) } },
    ]),
  );
  expect(JSON.stringify(artifacts)).not.toContain("secret");
  expect(await database.inspect("SELECT parts FROM artifact WHERE run_id = $1", [old.run.runId])).toEqual([
    { parts: [] },
    { parts: [] },
  ]);
  const audit = await database.inspect("SELECT run_id, actor, details FROM audit_log WHERE action = 'artifact:expire'");
  const bytes = LARGE.length + '[{"text": "secret"}]'.length;
  expect(audit).toEqual([
    { run_id: old.run.runId, actor: "system:worker", details: { days: 30, artifacts: 2, bytes } },
  ]);
  expect((await viewOf(young.run)).artifacts[0]?.parts[0]?.url).toBeDefined();
  expect(await store.find((await objectsOf(young.run))[0]?.key ?? "")).toBeDefined();
});

/** Everything that the database holds of a run, as text. */
const everythingOf = async ({ runId }: LeasedRun): Promise<string> => {
  const tables = ["run", "task", "message", "step", "run_event", "run_data", "artifact", "stored_object"];
  const rows = tables.map((table) =>
    database.inspect(`SELECT * FROM ${table} WHERE ${table === "run" ? "id" : "run_id"} = $1`, [runId]),
  );
  return JSON.stringify(await Promise.all(rows));
};

test("what an expired run's agents said is nowhere any more, what happened and what its caller said is", async () => {
  const [old, young] = [await given(), await given()];
  for (const scene of [old, young]) {
    const { run, recorder } = scene;
    const taskId = run.rootTaskId;
    const step = { inputHash: "h", state: "done" } as const;
    // More events than one statement takes.
    for (let piece = 0; piece < 450; piece += 1) {
      const chunk = { append: piece > 0, lastChunk: piece === 449 };
      await recorder.artifact(taskId, chunkOf("response-1", [{ text: `hush ${piece}` }], chunk));
    }
    recorder.step("Clerk", taskId, { ...step, position: 1, kind: "model", name: "m", output: { text: "hush" } });
    recorder.step("Clerk", taskId, {
      ...step,
      position: 2,
      kind: "tool",
      name: "look_up",
      input: { id: "hush" },
      output: { text: "hush", isError: false },
    });
    recorder.step("Clerk", taskId, {
      ...step,
      position: 3,
      kind: "approval",
      name: "charge",
      input: { arguments: "hush" },
      output: { decision: "approve", by: "Ada" },
    });
    recorder.event(taskId, { type: "notice", payload: { kind: "log", tool: "look_up", message: "hush" } });
    recorder.data({ taskId, agent: "Clerk", position: 2, name: "order", value: { secret: "hush" } });
    await recorder.artifact(taskId, chunkOf("withdrawn", [{ text: "" }]));
    await finish(scene);
  }
  await endedDaysAgo(old.run, 900);
  const before = await everythingOf(young.run);
  expect(await everythingOf(old.run)).toContain("hush 449");
  expect(await expire(800)).toBe(1);
  const left = await everythingOf(old.run);
  expect(left).not.toContain("hush");
  for (const kept of ["hello", "look_up", "approve", "Ada", "response-1", "order"]) expect(left).toContain(kept);
  expect(await everythingOf(young.run)).toBe(before);
  expect((await viewOf(old.run)).artifacts.map(({ artifactId }) => artifactId)).toEqual(["response-1"]);
  const broken = await findBrokenPromises(database, orgId);
  expect(broken.filter((line) => line.includes(old.run.runId) && line.startsWith("event numbers"))).toEqual([]);
});

test("retention that broke off is done again, and several workers that do it at once count each run once", async () => {
  const scene = await given();
  await send(scene, chunkOf("small", [{ text: "hush" }]));
  await finish(scene);
  await endedDaysAgo(scene.run, 1_900);
  await emptyTexts({ db: database.as("worker") }, { orgId, runs: [{ id: scene.run.runId, lastSeq: 100 }] });
  expect(JSON.stringify((await viewOf(scene.run)).artifacts)).toContain("hush");
  await Promise.all([expire(1_800), expire(1_800), expire(1_800)]);
  expect(await everythingOf(scene.run)).not.toContain("hush");
  const audit = "SELECT FROM audit_log WHERE action = 'artifact:expire' AND run_id = $1";
  expect(await database.inspect(audit, [scene.run.runId])).toHaveLength(1);
});

test("nobody can change the events and shared values of a run that goes on", async () => {
  const { run, recorder } = await given();
  recorder.data({ taskId: run.rootTaskId, agent: "Clerk", position: 1, name: "order", value: 7 });
  await recorder.finish({ kind: "parked", retryAt: new Date(0), counts: "nothing" });
  const worker = database.as("worker");
  for (const change of ["run_event SET payload = '{}'", "run_data SET value = '8'"]) {
    const text = `UPDATE ${change} WHERE org_id = $1 AND run_id = $2`;
    const changed = await worker.withOrg(orgId, (tx) => tx.query({ text, values: [orgId, run.runId] }));
    expect(changed.rowCount).toBe(0);
  }
});

test("a run that failed shows no expired content either", async () => {
  const scene = await given();
  const { run, recorder } = scene;
  await recorder.artifact(run.rootTaskId, chunkOf("response", [{ text: "half a sec" }], { lastChunk: false }));
  recorder.status({ taskId: run.rootTaskId, state: "failed" });
  await recorder.finish({ kind: "finished", state: "failed" });
  expect(JSON.stringify((await viewOf(run)).artifacts)).toContain("half a sec");
  await endedDaysAgo(run, 400);
  expect(await expire(399)).toBe(1);
  expect(JSON.stringify((await viewOf(run)).artifacts)).not.toContain("half a sec");
});

test("an object that no artifact came to use goes once its run is over, one in use or on its way stays", async () => {
  const runId = await givenRun();
  const late = gated();
  const first = recorderOf(await claim(runId, 1), { store: late.store });
  const storing = first.recorder.artifact(first.run.rootTaskId, chunkOf("a", [{ text: LARGE }]));
  await expect.poll(() => objectsOf(first.run)).toHaveLength(1);
  late.open();
  await storing;
  const second = recorderOf(await claim(runId));
  await send(second, chunkOf("a", [{ text: LARGE }]));
  await collect(0);
  expect(await objectsOf(second.run)).toHaveLength(2);
  const { artifacts } = await finish(second);
  await collect(60);
  expect(await objectsOf(second.run)).toHaveLength(2);
  await collect(0);
  const kept = storedObjectId(artifacts[0]?.parts[0] ?? {});
  expect(await objectsOf(second.run)).toMatchObject([{ id: kept, state: "kept" }]);
  expect(await store.list(`${orgId}/${runId}/`, { limit: 10 })).toHaveLength(1);
});

test("an object whose store is away is not forgotten", async () => {
  const scene = await given();
  await send(scene, chunkOf("large", [{ text: LARGE }]));
  await finish(scene);
  await endedDaysAgo(scene.run, 4_000);
  await expire(3_999);
  const away: ObjectStore = { ...store, delete: () => Promise.reject(new Error("away")) };
  await expect(collectObjects({ db: database.as("worker"), store: away }, { signal })).rejects.toThrow("away");
  expect(await objectsOf(scene.run)).toMatchObject([{ state: "deleting" }]);
  await collect(60);
  expect(await objectsOf(scene.run)).toEqual([]);
});
