import { tmpdir } from "node:os";
import { join } from "node:path";
import { createOperatorPrincipal, createTokenMinter, parseInternalJwtKeys, type TokenContext } from "@shaman/access";
import { createAgentResolver, createGitSource, registerRepository, syncRepository } from "@shaman/agents";
import { createInternalCaller, openAgentConnections } from "@shaman/a2a-wire";
import type { EngineEvent } from "@shaman/engine";
import { createExternalDirectory } from "@shaman/external";
import { newId, systemClock, unwrap, type JsonObject } from "@shaman/kernel";
import { createOutbound } from "@shaman/outbound";
import { createPostgresFanOut, type FanOut } from "@shaman/queue";
import {
  acceptMessage,
  claimRun,
  createRunRecorder,
  createRunWatcher,
  runLimitsOf,
  type LeasedRun,
  type RunWatcher,
} from "@shaman/runs";
import { parseScript } from "@shaman/scripts";
import { parseSecretKeys } from "@shaman/secrets";
import { createOrganizationDirectory, defaultSettings } from "@shaman/tenancy";
import {
  givenGitRemote,
  testDatabase,
  whenRow,
  type TestDatabase,
  testTokenContext,
  QUIET_QUEUE,
} from "@shaman/testkit";
import type { Tool, ToolContext, ToolOutcome } from "@shaman/tools";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { executeTask, type ExecuteTaskDeps } from "./execute-task.ts";

const SCRIPT = {
  turns: [
    {
      match: { turn: 1 },
      toolCalls: [
        { name: "charge_card", input: { eur: 100 } },
        { name: "look_up", input: { id: 7 } },
      ],
    },
    { match: { turn: 2 }, text: "I have what I need." },
  ],
};

let database: TestDatabase;
let fanOut: FanOut;
let watcher: RunWatcher;
let base: Omit<ExecuteTaskDeps, "openTools">;
let orgId: string;
let repository: { readonly repositoryId: string; readonly commit: string };
const closing: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  database = await testDatabase();
  ({ orgId } = await database.givenOrg());
  const db = database.as("internal");
  const onError = () => undefined;
  fanOut = createPostgresFanOut({ name: "test", onError, db: database.as("worker"), url: database.roleUrls.worker });
  watcher = await createRunWatcher({ db, fanOut, onError });
  const outbound = createOutbound({ allowLoopback: true, mapLocalhost: true, allowHttp: true, gitFileRoot: tmpdir() });
  const remote = await givenGitRemote();
  await remote.commit({
    "Clerk.md": "---\nname: Clerk\ndescription: x\nexposed: true\nmodel: scripted/Clerk.yaml\n---\nWork.\n",
    "Clerk.yaml": JSON.stringify(SCRIPT),
    "Boss.md": "---\nname: Boss\ndescription: x\nmodel: scripted/Boss.yaml\ncalls: [Clerk]\n---\nDelegate.\n",
    "Boss.yaml": JSON.stringify({
      turns: [{ match: {}, toolCalls: [{ name: "call_agent", input: { agent: "Clerk", message: "go" } }] }],
    }),
  });
  const keys = parseSecretKeys(`test:${"A".repeat(43)}`);
  if (!keys.ok) throw new Error(keys.error);
  const web = {
    db: database.as("web"),
    clock: systemClock,
    origin: { server: "cli" },
    secretKeys: keys.value,
    checkGitUrl: outbound.checkGitUrl,
  };
  const operator = createOperatorPrincipal({ orgId, name: "test" });
  const { repositoryId } = unwrap(await registerRepository(web, operator, { name: "agents", url: remote.url }));
  const git = createGitSource({ cacheDir: join(tmpdir(), newId("repo")), checkGitUrl: outbound.checkGitUrl });
  unwrap(
    await syncRepository(
      { db: database.as("worker"), git, secretKeys: keys.value, parseScript },
      { orgId, repositoryId },
    ),
  );
  const agents = createAgentResolver({ db, clock: systemClock });
  repository = { repositoryId, commit: unwrap(await agents.resolveExposed({ orgId, name: "Clerk" })).commit };
  const jwt = parseInternalJwtKeys(`test:${"A".repeat(43)}`);
  if (!jwt.ok) throw new Error(jwt.error);
  const connections = openAgentConnections({ connections: 1 });
  const minter = createTokenMinter({ keys: jwt.value, clock: systemClock });
  base = {
    db,
    watcher,
    agents,
    models: { db, secretKeys: keys.value, outbound },
    organizations: createOrganizationDirectory({ db, clock: systemClock, baseDomain: "internal" }),
    callInternal: createInternalCaller({ minter, connections, origin: "http://127.0.0.1:1", clock: systemClock }),
    external: {
      directory: createExternalDirectory({ db, clock: systemClock, secretKeys: keys.value, outbound }),
      outbound,
      clock: systemClock,
    },
  };
  closing.push(
    () => connections.destroy(),
    () => outbound.close(),
    () => remote.close(),
    () => fanOut.close(),
  );
});
afterAll(async () => {
  watcher.close();
  for (const close of closing) await close();
  await database.close();
});

/** Accepts a message for the agent and takes the run's lease. */
const givenRun = async (leaseMs = 60_000): Promise<LeasedRun> => {
  const accepted = await acceptMessage(
    { db: database.as("public"), queue: QUIET_QUEUE, onEnqueueFailed: () => undefined },
    {
      orgId,
      principal: "key:test",
      apiKeyId: null,
      userId: null,
      agent: "Clerk",
      ...repository,
      limits: runLimitsOf({ agent: { limits: {}, retry: {} }, organization: defaultSettings }),
      spendIsLimited: false,
      priority: 3,
      message: { messageId: newId("msg"), role: "ROLE_USER", parts: [{ text: "go" }] },
      contextId: undefined,
      messageId: null,
      idempotencyKey: undefined,
      traceparent: undefined,
      ip: undefined,
      protocol: "test",
    },
  );
  return claim(unwrap(accepted).runId, leaseMs);
};

const claim = async (runId: string, leaseMs = 60_000): Promise<LeasedRun> => {
  const run = await claimRun(database.as("worker"), { orgId, runId, leaseMs, worker: "w" });
  if (run === undefined) throw new Error("the run cannot be claimed");
  return run;
};

const expireLease = (run: LeasedRun) =>
  database.inspect("UPDATE run SET lease_until = now() - interval '1 second' WHERE id = $1", [run.runId]);

const contextOf = (run: LeasedRun): TokenContext =>
  testTokenContext({
    tenantId: orgId,
    runId: run.runId,
    taskId: run.rootTaskId,
    leaseEpoch: run.epoch,
    leaseHolder: run.holder,
    agent: `${repository.repositoryId}:Clerk`,
    commit: repository.commit,
  });

type Runs = Record<string, (input: JsonObject, context: ToolContext) => Promise<ToolOutcome>>;

const said = (text: string): ToolOutcome => ({ content: [{ type: "text", text }], isError: false });

const toolOf = (name: string, run: Runs[string] | undefined): Tool => ({
  spec: { name, description: name, inputSchema: { type: "object" } },
  server: "shop",
  originalName: name,
  repeatable: name !== "charge_card",
  run: run ?? (async () => said("nothing")),
});

/** One attempt at the task, recorded as a worker does until `until` says that the worker dies. */
const attempt = async (
  run: LeasedRun,
  tools: Runs,
  until: (event: EngineEvent) => boolean = () => false,
  {
    context = contextOf(run),
    callInternal = base.callInternal,
  }: Partial<Pick<ExecuteTaskDeps, "callInternal">> & {
    readonly context?: TokenContext;
  } = {},
): Promise<readonly EngineEvent[]> => {
  const recorder = createRunRecorder({ db: database.as("worker"), fanOut }, run, {
    coalesceMs: 10,
    coalesceBytes: 1_000,
  });
  const stop = new AbortController();
  const events: EngineEvent[] = [];
  const openTools = async () => ({
    tools: ["charge_card", "look_up"].map((name) => toolOf(name, tools[name])),
    problems: ["The server mail cannot be reached."],
    close: async () => undefined,
  });
  const input = {
    context,
    contextId: run.contextId,
    message: run.messages[0] ?? {},
    onRecord: Promise.resolve(),
    signal: stop.signal,
  };
  try {
    for await (const event of await executeTask({ ...base, callInternal, openTools }, input)) {
      if (until(event)) break;
      events.push(event);
      if (event.type === "step") recorder.step("Clerk", run.rootTaskId, event.step);
      if (event.type === "commit") recorder.commitNow();
      if (event.type === "completed") recorder.status({ taskId: run.rootTaskId, state: "completed" });
    }
  } finally {
    stop.abort(new Error("the worker is gone"));
  }
  if (events.at(-1)?.type === "completed") await recorder.finish({ kind: "finished", state: "completed" });
  return events;
};

const stepsOf = (run: LeasedRun) =>
  database.inspect<{ name: string; state: string; server: string | null; text: string | null; epoch: number }>(
    `SELECT name, state, server, output->>'text' AS text, lease_epoch AS epoch FROM step
     WHERE task_id = $1 AND kind = 'tool' ORDER BY position`,
    [run.rootTaskId],
  );

describe("a tool that is not safe to repeat", () => {
  test("is on record as started before it runs, under the lease, and as done after", async () => {
    const run = await givenRun();
    let seen: unknown;
    const events = await attempt(run, {
      charge_card: async () => {
        seen = await stepsOf(run);
        return said("charged");
      },
    });
    expect(seen).toContainEqual(expect.objectContaining({ name: "charge_card", state: "started", epoch: 1 }));
    expect(events.at(-1)).toEqual({ type: "completed" });
    expect(await stepsOf(run)).toMatchObject([
      { name: "charge_card", state: "done", server: "shop", text: expect.stringContaining("charged") },
      { name: "look_up", state: "done", server: "shop" },
    ]);
    expect(events).toContainEqual({
      type: "notice",
      notice: { kind: "problem", message: "The server mail cannot be reached." },
    });
  });

  test("that was interrupted is never run again: the model is told that its outcome is unknown", async () => {
    const run = await givenRun();
    let charged = 0;
    const hang = (_: JsonObject, { signal, notice }: ToolContext): Promise<never> => {
      charged += 1;
      notice({ kind: "log", level: "info", message: "charging" });
      return new Promise((_resolve, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason), { once: true });
      });
    };
    await attempt(
      run,
      { charge_card: hang },
      (event) => event.type === "notice" && event.notice.message === "charging",
    );
    expect(await stepsOf(run)).toContainEqual(expect.objectContaining({ name: "charge_card", state: "started" }));
    await expireLease(run);
    const events = await attempt(await claim(run.runId), { charge_card: chargeInto(() => (charged += 1)) });
    expect(charged).toBe(1);
    expect(events.at(-1)).toEqual({ type: "completed" });
    expect(await stepsOf(run)).toContainEqual(
      expect.objectContaining({ name: "charge_card", state: "unknown", text: expect.stringContaining("unknown") }),
    );
  });

  test.each([
    ["lease has run out", (run: LeasedRun) => expireLease(run).then(() => run)],
    ["lease is another holder's, of the same epoch", async (run: LeasedRun) => ({ ...run, holder: "w:another" })],
    ["lease has gone to a later attempt", async (run: LeasedRun) => ({ ...run, epoch: run.epoch - 1 })],
  ])("does not run for an attempt whose %s, and nothing of it is on record", async (_, change) => {
    const run = await givenRun();
    let charged = 0;
    await attempt(run, {}, (event) => event.type === "commit");
    await whenRow(database, "SELECT 1 FROM step WHERE task_id = $1 AND kind = 'model'", [run.rootTaskId]);
    await expireLease(run);
    await claim(run.runId);
    await expireLease(run);
    const stale = await change(await claim(run.runId));
    const tools = { charge_card: chargeInto(() => (charged += 1)) };
    await expect(attempt(stale, tools)).rejects.toMatchObject({ code: "step_not_started" });
    expect(charged).toBe(0);
    expect((await stepsOf(run)).filter(({ name }) => name === "charge_card")).toEqual([]);
  });
});

describe("a task of an announced run", () => {
  const NO_TOOLS = { tools: [], problems: [], close: async () => undefined };

  /** One that is made ready while its run is being written; how often its tools were opened. */
  const makeReady = async () => {
    const run = await givenRun();
    const intake = Promise.withResolvers<void>();
    // Whoever waits for it hears of it.
    intake.promise.catch(() => undefined);
    let opened = 0;
    const events = executeTask(
      { ...base, openTools: async () => ((opened += 1), NO_TOOLS) },
      {
        context: { ...contextOf(run), announced: true },
        contextId: run.contextId,
        message: run.messages[0] ?? {},
        onRecord: intake.promise,
        signal: new AbortController().signal,
      },
    );
    return { intake, first: events.then((task) => task.next()), opened: () => opened };
  };

  test("asks nobody for anything before its run is on record", async () => {
    const { intake, first, opened } = await makeReady();
    // Another one, from beginning to end.
    await attempt(await givenRun(), {});
    expect(opened()).toBe(0);
    intake.resolve();
    await first;
    expect(opened()).toBe(1);
  });

  test("breaks off where its run does not come on record", async () => {
    const { intake, first, opened } = await makeReady();
    intake.reject(new Error("withdrawn"));
    await expect(first).rejects.toThrow("withdrawn");
    expect(opened()).toBe(0);
  });

  test("calls agents whose tasks need not wait for that again", async () => {
    const contexts: TokenContext[] = [];
    const run = await givenRun();
    const context = { ...contextOf(run), agent: `${repository.repositoryId}:Boss`, announced: true };
    await attempt(run, {}, (event) => event.type === "child", {
      context,
      callInternal: async function* (call) {
        contexts.push(call.context);
        yield [{ statusUpdate: { taskId: call.context.taskId, status: { state: "TASK_STATE_COMPLETED" } } }];
      },
    });
    expect(contexts).toMatchObject([{ depth: 1, agent: `${repository.repositoryId}:Clerk` }]);
    expect(contexts[0]).not.toHaveProperty("announced");
  });
});

const chargeInto = (charge: () => void) => async (): Promise<ToolOutcome> => {
  charge();
  return said("charged");
};
