import { newId, Secret } from "@shaman/kernel";
import { startRedis, testDatabase, whenSeen, type RedisServer, type TestDatabase } from "@shaman/testkit";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { JobQueue } from "./job-queue.ts";
import { createPostgresJobQueue } from "./postgres-job-queue.ts";
import { createRedisJobQueue } from "./redis-job-queue.ts";
import type { HeardWakeUp, WakeUp } from "./wake-up.ts";

describe.each(["postgres", "redis"])("the job queue on %s", (backend) => {
  let database: TestDatabase;
  let redis: RedisServer | undefined;
  const open: JobQueue[] = [];
  const errors: Error[] = [];

  const openQueue = (takes: boolean): JobQueue => {
    const options = { name: `test-${open.length}`, onError: (error: Error) => void errors.push(error), takes };
    const queue =
      redis === undefined
        ? createPostgresJobQueue({ ...options, url: database.roleUrls.worker, poolSize: 3 })
        : createRedisJobQueue({ ...options, url: new Secret(redis.url) });
    open.push(queue);
    return queue;
  };

  let worker: JobQueue;
  beforeAll(async () => {
    database = await testDatabase();
    redis = backend === "redis" ? await startRedis() : undefined;
    worker = openQueue(true);
  });
  afterAll(async () => {
    await Promise.all(open.map((queue) => queue.close()));
    await redis?.close();
    await database.close();
  });

  const jobOf = (orgId: string, jobId: string, changes: Partial<WakeUp> = {}): WakeUp => ({
    orgId,
    jobId,
    name: "run.execute",
    data: { runId: jobId, wake: 1 },
    priority: 3,
    ...changes,
  });

  /** Takes everything, job after job; gives what each of them woke. */
  const takeJobs = async (orgId: string): Promise<readonly (readonly HeardWakeUp[])[]> => {
    const taken: (readonly HeardWakeUp[])[] = [];
    for (let job = await worker.take(orgId); job !== undefined; job = await job.finish({ takeNext: true })) {
      taken.push(job.wakeUps);
    }
    return taken;
  };
  const takeAll = async (orgId: string): Promise<readonly HeardWakeUp[]> => (await takeJobs(orgId)).flat();
  const idsOf = (wakeUps: readonly HeardWakeUp[]): readonly string[] =>
    wakeUps.map(({ data }) => (typeof data === "object" && data !== null && "runId" in data ? String(data.runId) : ""));

  const withRedis = async <T>(url: string, work: (client: Redis) => Promise<T>): Promise<T> => {
    const client = new Redis(url);
    return work(client).finally(() => client.disconnect());
  };
  /** Jobs of any state that the queue holds. */
  const countJobs = async (orgId: string): Promise<number> => {
    const name = `shaman-${orgId}-jobs`;
    if (redis !== undefined) {
      const keys = await withRedis(redis.url, (client) => client.keys(`bull:${name}:*`));
      return keys.filter((key) => /:(several-\w+|[a-z]-1)$/.test(key)).length;
    }
    const jobs = await database.inspect("SELECT 1 FROM bullmq.job WHERE queue = $1", [name]);
    return jobs.length;
  };
  /** Has the locks of all that was taken run out. */
  const unlockAll = async (): Promise<void> => {
    if (redis === undefined) {
      await database.inspect("UPDATE bullmq.job SET locked_until_ms = 0 WHERE state = 'active'", []);
      return;
    }
    await withRedis(redis.url, async (client) => client.del(await client.keys("bull:*:lock")));
  };

  test("gives each job once, to whoever takes it, with what it holds", async () => {
    const orgId = newId("org");
    for (const id of ["a-1", "b-1", "c-1"]) await worker.add(jobOf(orgId, id));
    const [mine, other] = await Promise.all([worker.take(orgId), openQueue(true).take(orgId)]);
    const taken = [mine, other].flatMap((job) => job?.wakeUps ?? []);
    expect(idsOf(taken).toSorted()).toEqual(["a-1", "b-1"]);
    expect(taken[0]).toMatchObject({ orgId, name: "run.execute", priority: 3, data: { wake: 1 } });
    expect(idsOf(await takeAll(orgId))).toEqual(["c-1"]);
  });

  test("takes a job id that is still queued for the same job, and one that was done for a new one", async () => {
    const orgId = newId("org");
    for (let i = 0; i < 5; i += 1) await worker.add(jobOf(orgId, "a-1"));
    await worker.addAgain(jobOf(orgId, "a-1"));
    expect(idsOf(await takeAll(orgId))).toEqual(["a-1"]);
    await worker.add(jobOf(orgId, "a-1"));
    expect(idsOf(await takeAll(orgId))).toEqual(["a-1"]);
    expect(await worker.take(orgId)).toBeUndefined();
  });

  test("leaves what waits in its place when it is added again, and adds anew what a dead process had taken", async () => {
    const orgId = newId("org");
    for (const id of ["a-1", "b-1", "c-1"]) await worker.add(jobOf(orgId, id));
    await worker.addAgain(jobOf(orgId, "b-1"));
    await worker.addAgain(jobOf(orgId, "a-1"));
    await worker.take(orgId);
    await worker.addAgain(jobOf(orgId, "a-1"));
    expect(idsOf(await takeAll(orgId))).toEqual(["b-1", "c-1"]);
    await unlockAll();
    await worker.addAgain(jobOf(orgId, "a-1"));
    expect(idsOf(await takeAll(orgId))).toEqual(["a-1"]);
  });

  test.runIf(backend === "redis")(
    "says that it is away, and adds what it was told meanwhile when it is back",
    async () => {
      const orgId = newId("org");
      const producer = openQueue(false);
      await producer.add(jobOf(orgId, "a-1"));
      await takeAll(orgId);
      await redis?.kill();
      await expect(producer.add(jobOf(orgId, "b-1"))).rejects.toThrow();
      await expect(producer.add(jobOf(orgId, "c-1"))).rejects.toThrow();
      await redis?.restart();
      const back = await whenSeen("both", async () => ((await countJobs(orgId)) === 2 ? takeAll(orgId) : undefined));
      expect(idsOf(back).toSorted()).toEqual(["b-1", "c-1"]);
    },
  );

  test("serves by priority, then by age", async () => {
    const orgId = newId("org");
    await worker.add(jobOf(orgId, "late-1", { priority: 5 }));
    await worker.add(jobOf(orgId, "usual-1"));
    await worker.add(jobOf(orgId, "first-1", { priority: 1 }));
    await worker.add(jobOf(orgId, "usual-2"));
    expect(idsOf(await takeAll(orgId))).toEqual(["first-1", "usual-1", "usual-2", "late-1"]);
  });

  test("makes one job of what a turn adds with the same priority, and serves first what is given back", async () => {
    const orgId = newId("org");
    const ids = Array.from({ length: 20 }, (_, i) => `r${i}-1`);
    await Promise.all([...ids.map((id) => jobOf(orgId, id)), jobOf(orgId, "first-1", { priority: 2 })].map(worker.add));
    const [first, ...others] = (await takeJobs(orgId)).map(idsOf);
    expect(first).toEqual(["first-1"]);
    // They are added at once, so either can come first.
    expect(others.toSorted((a, b) => b.length - a.length)).toEqual([ids.slice(0, 16), ids.slice(16)]);

    await Promise.all(["a-1", "b-1", "c-1"].map((id) => worker.add(jobOf(orgId, id))));
    await worker.add(jobOf(orgId, "d-1"));
    const job = await worker.take(orgId);
    await worker.giveBack(job?.wakeUps.slice(1) ?? []);
    await worker.add(jobOf(orgId, "urgent-1", { priority: 2 }));
    await job?.finish({ takeNext: false });
    expect((await takeJobs(orgId)).map(idsOf)).toEqual([["urgent-1"], ["b-1", "c-1"], ["d-1"]]);
  });

  test("removes what a process took and left half taken when it died, and nothing that was taken just now", async () => {
    const orgId = newId("org");
    await Promise.all(["a-1", "b-1"].map((id) => worker.add(jobOf(orgId, id))));
    await worker.add(jobOf(orgId, "c-1"));
    const job = await worker.take(orgId);
    await worker.dropAbandoned(orgId, 0);
    expect(await countJobs(orgId)).toBe(2);
    await unlockAll();
    await worker.dropAbandoned(orgId, 60_000);
    expect(await countJobs(orgId)).toBe(2);
    await worker.dropAbandoned(orgId, 0);
    expect([job?.wakeUps.length, await countJobs(orgId)]).toEqual([2, 1]);
    expect(idsOf(await takeAll(orgId))).toEqual(["c-1"]);
  });

  test("tells of a job that it cannot read, and drops it", async () => {
    const orgId = newId("org");
    errors.length = 0;
    await worker.add(jobOf(orgId, "a-1", { name: "several", data: {} }));
    await worker.add(jobOf(orgId, "b-1"));
    expect(idsOf(await takeAll(orgId))).toEqual(["b-1"]);
    expect(errors.map(({ message }) => message)).toEqual([`The job a-1 of ${orgId} cannot be read and is dropped`]);
  });

  test("keeps organizations apart, and a delayed job until its time", async () => {
    const [orgId, other] = [newId("org"), newId("org")];
    await worker.add(jobOf(orgId, "a-1"));
    await worker.add(jobOf(other, "later-1", { delayMs: 3_600_000 }));
    expect(await worker.take(other)).toBeUndefined();
    expect(idsOf(await takeAll(orgId))).toEqual(["a-1"]);
  });

  test("keeps a job of a process that ends right after it has added it, and tells others", async () => {
    const orgId = newId("org");
    const told: string[] = [];
    await openQueue(true).onAdded((id) => void told.push(id));
    const leaving = openQueue(false);
    await leaving.add(jobOf(orgId, "first"));
    void leaving.add(jobOf(orgId, "last"));
    open.splice(open.indexOf(leaving), 1);
    await leaving.close();
    expect(idsOf(await takeAll(orgId))).toEqual(["first", "last"]);
    await whenSeen("both announcements", () => (told.filter((id) => id === orgId).length === 2 ? true : undefined));
  });

  test("tells a process which organization got a job from another one", async () => {
    const [orgId, told] = [newId("org"), new Set<string>()];
    await worker.onAdded((id) => void told.add(id));
    const producer = openQueue(false);
    // A producer on Redis refuses while it is not connected yet.
    await whenSeen("an added job", () =>
      producer.add(jobOf(orgId, "a-1")).then(
        () => true,
        () => undefined,
      ),
    );
    await whenSeen("the nudge", () => (told.has(orgId) ? true : undefined));
    expect(idsOf(await takeAll(orgId))).toEqual(["a-1"]);
  });
});
