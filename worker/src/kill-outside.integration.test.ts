import {
  callOf,
  findBrokenPromises,
  onResult,
  scriptedAgent,
  scriptedCaller,
  startOutsideAgent,
  startRedis,
  startShaman,
  textMessage,
  whenRow,
  whenSeen,
  type OutsideAgent,
  type OutsideInterface,
  type ProcessName,
  type RedisServer,
  type Shaman,
  type TestOrg,
} from "@shaman/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

/** One of each version and binding, so that each has to find its task again in its own words. */
const PARTNERS: readonly OutsideInterface[] = ["rpc", "rest", "old-rpc", "old-rest"];
const VICTIMS: readonly ProcessName[] = ["internal", "worker"];

const gateOf = (partner: string, victim: string): string => `${partner}-${victim}`;

const AGENTS = {
  // One agent that calls a partner for each partner and victim; what it is told stands in its answer.
  ...Object.fromEntries(
    PARTNERS.flatMap((partner) =>
      VICTIMS.flatMap((victim) => {
        const gate = gateOf(partner, victim);
        const then = [onResult("One moment, done.", "It is done.")];
        return Object.entries(scriptedCaller(`Caller-${gate}`, [callOf(partner, `hold ${gate}`)], then));
      }),
    ),
  ),
  // Ended from above while their partners are at work.
  ...scriptedCaller("Canceled", [callOf("rpc", "hold canceled")], []),
  ...scriptedCaller("Late", [callOf("old-rpc", "hold late")], [], "limits: {timeoutSeconds: 4}"),
  ...scriptedAgent("Root", "exposed: true", [
    { match: { turn: 1 }, toolCalls: [callOf("Middle", "go")] },
    { match: { turn: 2 }, text: "Without them." },
  ]),
  ...scriptedAgent("Middle", "limits: {timeoutSeconds: 3}", [
    { match: { turn: 1 }, toolCalls: [callOf("Leaf", "go")] },
  ]),
  ...scriptedCaller("Leaf", [callOf("rest", "hold leaf")], []),
};

describe.each(["postgres", "redis"])("kill -9 while outside agents are at work, on %s", (backend) => {
  let shaman: Shaman;
  let org: TestOrg;
  let partner: OutsideAgent;
  let redis: RedisServer | undefined;
  beforeAll(async () => {
    redis = backend === "redis" ? await startRedis() : undefined;
    partner = await startOutsideAgent();
    shaman = await startShaman(redis === undefined ? {} : { redisUrl: redis.url });
    org = await shaman.givenOrg(AGENTS);
    for (const name of PARTNERS) await org.addOutsideAgent({ name, url: partner.cardUrl(name) });
  });
  afterAll(async () => {
    await shaman.close();
    await partner.close();
    await redis?.close();
  });

  const begin = async (agent: string): Promise<string> => {
    const params = { ...textMessage("go"), configuration: { returnImmediately: true } };
    const { json } = await shaman.rpc(org, { agent, method: "SendMessage", params });
    return json.result.task.id;
  };
  /** Resolves with the partner's task id once that is on record for the call in this run. */
  const whenAtWork = async (rootTaskId: string): Promise<string> => {
    const row = await whenRow(
      shaman.database,
      `SELECT output->'remote'->>'taskId' AS id FROM step
       WHERE run_id = (SELECT run_id FROM task WHERE id = $1) AND kind = 'call' AND output->'remote'->>'taskId' IS NOT NULL`,
      [rootTaskId],
    );
    return String(row.id);
  };
  const whenFinished = (taskId: string, state: string) =>
    whenRow(shaman.database, "SELECT 1 FROM task WHERE id = $1 AND state = $2", [taskId, state]);
  const isCanceled = (remoteId: string): boolean =>
    partner.told.some((one) => one.kind === "canceled" && one.taskId === remoteId);
  const whenAudited = (rootTaskId: string) =>
    whenRow(
      shaman.database,
      `SELECT resource, result, details->>'outcome' AS outcome, details->>'remoteTaskId' AS "remoteTaskId" FROM audit_log
       WHERE action = 'agent:cancel' AND run_id = (SELECT run_id FROM task WHERE id = $1)`,
      [rootTaskId],
    );

  test.each(VICTIMS)("of the %s: each partner works on one task, whose answer arrives once", async (victim) => {
    const tasks = await Promise.all(PARTNERS.map((name) => begin(`Caller-${gateOf(name, victim)}`)));
    const remoteIds = await Promise.all(tasks.map(whenAtWork));
    await shaman.processes[victim].kill("SIGKILL");
    await shaman.processes[victim].start();
    // The next holder follows them before any of them answers.
    await Promise.all(
      tasks.map((taskId) =>
        whenRow(shaman.database, "SELECT 1 FROM run WHERE root_task_id = $1 AND lease_epoch > 1", [taskId]),
      ),
    );
    for (const name of PARTNERS) partner.release(gateOf(name, victim));
    await Promise.all(tasks.map((taskId) => whenFinished(taskId, "completed")));
    for (const [i, taskId] of tasks.entries()) {
      const gate = gateOf(PARTNERS[i] ?? "", victim);
      const heard = partner.told.filter((one) => one.kind === "working" && one.text === `hold ${gate}`);
      expect(heard, gate).toMatchObject([{ taskId: remoteIds[i] }]);
      expect(isCanceled(remoteIds[i] ?? ""), gate).toBe(false);
      const calls = await shaman.database.inspect(
        "SELECT state, output->>'text' AS text FROM step WHERE task_id = $1 AND kind = 'call'",
        [taskId],
      );
      expect(calls, gate).toEqual([{ state: "done", text: expect.stringContaining("One moment, done.") }]);
      const ended = await shaman.database.inspect(
        `SELECT 1 FROM run_event WHERE task_id = $1 AND type = 'step' AND payload->>'kind' = 'call' AND payload->>'state' = 'done'`,
        [taskId],
      );
      expect(ended, gate).toHaveLength(1);
    }
    expect(await findBrokenPromises(shaman.database, org.orgId)).toEqual([]);
  });

  test("of the worker of a run that is canceled before anybody else holds it: the next one cancels the partner's task", async () => {
    const taskId = await begin("Canceled");
    const remoteId = await whenAtWork(taskId);
    await shaman.processes.worker.kill("SIGKILL");
    await shaman.rpc(org, { agent: "Canceled", method: "CancelTask", params: { id: taskId } });
    await shaman.processes.worker.start();
    await whenFinished(taskId, "canceled");
    await partner.whenTold("canceled", (told) => told.taskId === remoteId);
    expect(await whenAudited(taskId)).toEqual({
      resource: "/externalAgents/rpc/",
      result: "ok",
      outcome: expect.stringMatching(/^(canceled|over)$/),
      remoteTaskId: remoteId,
    });
    expect(await findBrokenPromises(shaman.database, org.orgId)).toEqual([]);
  });

  test("of the internal server until a run's time is over: the worker cancels the partner's task", async () => {
    const taskId = await begin("Late");
    const remoteId = await whenAtWork(taskId);
    await shaman.processes.internal.kill("SIGKILL");
    await whenFinished(taskId, "failed");
    await partner.whenTold("canceled", (told) => told.taskId === remoteId);
    expect(await whenAudited(taskId)).toMatchObject({ resource: "/externalAgents/old-rpc/", remoteTaskId: remoteId });
    await shaman.processes.internal.start();
    const rows = await whenSeen("no cancel is left", async () => {
      const left = await shaman.database.inspect("SELECT 1 FROM outside_cancel");
      return left.length === 0 ? left : undefined;
    });
    expect(rows).toEqual([]);
    expect(await findBrokenPromises(shaman.database, org.orgId)).toEqual([]);
  });

  test("of nobody: a caller in the middle that fails ends what is below it, the partner's task too, and the run goes on", async () => {
    const taskId = await begin("Root");
    const remoteId = await whenAtWork(taskId);
    await whenFinished(taskId, "completed");
    const below = await shaman.database.inspect(
      "SELECT agent, state FROM task WHERE run_id = (SELECT run_id FROM task WHERE id = $1) AND parent_task_id IS NOT NULL ORDER BY agent",
      [taskId],
    );
    expect(below).toEqual([
      { agent: "Leaf", state: expect.stringMatching(/^(canceled|failed)$/) },
      { agent: "Middle", state: "failed" },
    ]);
    await partner.whenTold("canceled", (told) => told.taskId === remoteId);
    expect(await findBrokenPromises(shaman.database, org.orgId)).toEqual([]);
  });
});
