import {
  findBrokenPromises,
  startRedis,
  startShaman,
  whenRow,
  type RedisServer,
  type Shaman,
  type TestOrg,
} from "@shaman/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const AGENT = {
  "Clerk.md": "---\nname: Clerk\ndescription: Answers\nexposed: true\nmodel: scripted/clerk.yaml\n---\nYou answer.\n",
  "clerk.yaml": "turns:\n  - text: [{text: 'done', delayMs: 30}]\n",
};
const SLOTS = 4;
const QUEUED = 60;

describe.each(["postgres", "redis"])("one organization with many queued runs and one with a few, on %s", (backend) => {
  let shaman: Shaman;
  let redis: RedisServer | undefined;
  beforeAll(async () => {
    redis = backend === "redis" ? await startRedis() : undefined;
    shaman = await startShaman({
      env: { WORKER_CONCURRENCY: String(SLOTS) },
      ...(redis !== undefined && { redisUrl: redis.url }),
    });
  });
  afterAll(async () => {
    await shaman.close();
    await redis?.close();
  });

  const submit = (org: TestOrg, id: string) =>
    shaman.rpc(org, {
      agent: "Clerk",
      method: "SendMessage",
      params: {
        message: { messageId: id, role: "ROLE_USER", parts: [{ text: id }] },
        configuration: { returnImmediately: true },
      },
    });

  test("the newcomer's runs are claimed next to those of the one that was there, not behind them", async () => {
    const [big, small] = [await shaman.givenOrg(AGENT), await shaman.givenOrg(AGENT)];
    await Promise.all(Array.from({ length: QUEUED }, (_, i) => submit(big, `big-${i}`)));
    await whenRow(shaman.database, "SELECT 1 FROM run WHERE finished_at IS NOT NULL HAVING count(*) >= 4");
    for (const id of ["small-1", "small-2", "small-3"]) expect((await submit(small, id)).status).toBe(200);
    await whenRow(shaman.database, "SELECT 1 FROM run WHERE finished_at IS NOT NULL HAVING count(*) = $1", [
      QUEUED + 3,
    ]);

    // Runs of the big one that began after the small one's were accepted and before they began.
    const overtaken = await shaman.database.inspect<{ count: number }>(
      `SELECT (SELECT count(*)::integer FROM run b WHERE b.org_id = $1 AND b.started_at > s.created_at AND b.started_at < s.started_at) AS count
       FROM run s WHERE s.org_id = $2 ORDER BY s.created_at`,
      [big.orgId, small.orgId],
    );
    for (const { count } of overtaken) expect(count).toBeLessThanOrEqual(2 * SLOTS);
    expect(await findBrokenPromises(shaman.database, big.orgId)).toEqual([]);
    expect(await findBrokenPromises(shaman.database, small.orgId)).toEqual([]);
  });
});
