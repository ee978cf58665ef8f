import type { Db } from "@shaman/db";
import { abortAfter, AppError, toAppError } from "@shaman/kernel";
import type { FanOut, JobQueue } from "@shaman/queue";
import {
  claimRun,
  createRunRecorder,
  isOnRecord,
  leaseLost,
  listLeftOpen,
  reserveSpend,
  wakeUpOf,
  type LeasedRun,
  type RecorderOptions,
  type Reserved,
  type RunOutcome,
} from "@shaman/runs";
import type { ObjectStore } from "@shaman/storage";
import type { Logger } from "@shaman/telemetry";
import type { HeldLeases, HeldRun } from "../held-leases.ts";
import { callAgent, costLeft, type AgentCallDeps } from "./call-agent.ts";
import { notStored, record } from "./record-event.ts";
import { applyReply } from "./resume-run.ts";
import { canceled, failed, type FailureRecord, type Recording } from "./run-end.ts";
import { createTaskTree } from "./task-tree.ts";

export type ExecuteRunDeps = AgentCallDeps & {
  readonly db: Db;
  readonly queue: JobQueue;
  readonly fanOut: FanOut;
  readonly held: HeldLeases;
  readonly worker: string;
  readonly leaseMs: number;
  readonly recorder: Omit<RecorderOptions, "artifacts">;
  /** Where artifacts go that are too large for the database. */
  readonly store: ObjectStore;
  readonly log: Logger;
};

/** Why a worker stops a run: `withdrawn` is one that was announced and has not come on record. */
type StopReason = "cancel" | "handover" | "withdrawn";

export class StopRun extends Error {
  readonly why: StopReason;
  constructor(why: StopReason) {
    super(`run stopped: ${why}`);
    this.why = why;
  }
}

/** Claims in a row without a finished step after which a run is given up. */
const POISON_CLAIMS = 5;
const UNREACHABLE_RETRY_MS = 1_000;
/** After the first broken answer, and twice as long after each further one: a server in trouble is to cost a run few claims. */
const BROKEN_RETRY_MS = 500;

/**
 * Takes the run's lease and works on it until it is finished, waits for somebody, or must be tried again later. Does
 * nothing when another worker holds it: the job was one of several that woke the same run.
 */
export const executeRun = async (
  deps: ExecuteRunDeps,
  job: { readonly orgId: string; readonly runId: string },
): Promise<void> => {
  const { leaseMs, worker } = deps;
  const run = await claimRun(deps.db, { ...job, leaseMs, worker });
  if (run !== undefined) await workOn(deps, run, { leaseMs });
};

/** Works on a run whose lease this worker has, and has for `leaseMs` yet. */
export const workOn = async (
  deps: ExecuteRunDeps,
  run: LeasedRun,
  { leaseMs }: { readonly leaseMs: number },
): Promise<void> => {
  const stop = new AbortController();
  const held: HeldRun = { lease: run, leaseMs, stop: (reason) => stop.abort(reason) };
  deps.held.add(held);
  const artifacts = { store: deps.store, limits: artifactLimitsOf(run) };
  const recorder = createRunRecorder(deps, run, { ...deps.recorder, artifacts });
  try {
    const tree = await createTaskTree(deps.db, run);
    const outcome = await work(deps, { run, recorder, tree, stop: stop.signal });
    const recorded = await recorder.finish(outcome);
    if (outcome.kind === "parked") await enqueueAgain(deps, run, { wake: recorded.wake, retryAt: outcome.retryAt });
  } catch (error) {
    // Whoever holds the lease now, or the sweep, goes on from what was recorded.
    if (!(error instanceof StopRun)) deps.log.error("run_abandoned", error, { runId: run.runId, epoch: run.epoch });
  } finally {
    recorder.abandon();
    deps.held.remove(held);
  }
};

const INLINE_BYTES = 256_000;
const TOTAL_BYTES = 100_000_000;

/** What the run was accepted with; the defaults for runs that were accepted before there were such limits. */
const artifactLimitsOf = ({ limits }: LeasedRun) => ({
  inlineBytes: Number(limits.artifactInlineBytes ?? INLINE_BYTES),
  totalBytes: Number(limits.artifactTotalBytes ?? TOTAL_BYTES),
});

type Work = Recording & { readonly stop: AbortSignal };

const enqueueAgain = async (
  deps: ExecuteRunDeps,
  run: LeasedRun,
  next: { readonly wake: number; readonly retryAt: Date },
): Promise<void> => {
  const delayMs = Math.max(0, next.retryAt.getTime() - Date.now());
  const job = wakeUpOf({ orgId: run.orgId, runId: run.runId, priority: run.priority, wake: next.wake, delayMs });
  await deps.queue.add(job).catch((error: unknown) => deps.log.error("enqueue_failed", error, { runId: run.runId }));
};

const work = async (deps: ExecuteRunDeps, at: Work): Promise<RunOutcome> => {
  const { run, recorder } = at;
  const cancel = run.commands.find((command) => command.kind === "cancel");
  if (cancel !== undefined) return canceled(at, cancel.id);
  if (run.barrenClaims > POISON_CLAIMS) return failed(at, poisoned(run));
  const reserved = await reserveSpend(deps.db, run, costLeft(run));
  if (reserved.limit !== undefined && reserved.costUsd === 0) return failed(at, nothingToSpend(reserved.limit));
  await applyReply(deps.db, run);
  if (run.epoch > 1) for (const artifact of await listLeftOpen(deps.db, run)) recorder.leftOpen(artifact);
  // That a run is worked on can be recorded once it is on record itself.
  if (!run.announced) begin(at);
  return follow(deps, { ...at, reserved });
};

const begin = ({ run, recorder, tree }: Recording): void => {
  if (tree.move(run.rootTaskId, "working")) recorder.status({ taskId: run.rootTaskId, state: "working", lazy: true });
};

/** Follows the agent's answer and records it as it comes. */
const follow = async (
  deps: ExecuteRunDeps,
  { reserved, ...at }: Work & { readonly reserved: Reserved },
): Promise<RunOutcome> => {
  const { run, recorder, stop } = at;
  const both = abortAfter(Infinity, stop, recorder.lost);
  // An announced run of which the agent has said nothing yet.
  let mayBeUnwritten = run.announced;
  const events = callAgent(deps, { run, reserved }, both.signal);
  try {
    for (let next = await events.next(); next.done !== true; next = await events.next()) {
      mayBeUnwritten = false;
      begin(at);
      for (const event of next.value) {
        const recorded = record(at, event);
        if (recorded === undefined) continue;
        const outcome = await recorded;
        if (outcome === undefined) continue;
        void readOut(events);
        return outcome;
      }
    }
    throw new AppError({
      code: "agent_stream_broken",
      kind: "operational",
      message: "The answer ended before the task did",
    });
  } catch (error) {
    if (recorder.lost.aborted) throw recorder.lost.reason;
    // The lease is gone, or there never was one.
    if (stop.aborted && (!(stop.reason instanceof StopRun) || stop.reason.why === "withdrawn")) throw stop.reason;
    if (mayBeUnwritten) {
      if (!(await isOnRecord(deps.db, run))) throw leaseLost(run.runId);
      begin(at);
    }
    if (stop.aborted) return stopped(deps, at);
    const notKept = notStored(at, toAppError(error));
    if (notKept !== undefined) return notKept;
    deps.log.warn("agent_broken_off", { runId: run.runId, epoch: run.epoch, message: toAppError(error).message });
    return unreachable(at, toAppError(error));
  } finally {
    both.clear();
  }
};

const EVENTS_AFTER_THE_END = 10;

/** Takes the end of a stream whose last event has come: left unread, it would cost the connection it came on. */
const readOut = async (events: ReturnType<typeof callAgent>): Promise<void> => {
  try {
    for (let count = 0; count < EVENTS_AFTER_THE_END; count += 1) if ((await events.next()).done === true) return;
    await events.return();
  } catch {
    // What breaks after the last event breaks nothing.
  }
};

const stopped = async (deps: ExecuteRunDeps, at: Work): Promise<RunOutcome> => {
  const { run, stop } = at;
  if (!(stop.reason instanceof StopRun)) throw stop.reason;
  if (stop.reason.why === "handover") return { kind: "parked", retryAt: new Date(), counts: "nothing" };
  const [found] = await deps.db.batch(run.orgId, [
    {
      name: "open_cancel",
      text: "SELECT id FROM task_command WHERE org_id = $1 AND run_id = $2 AND kind = 'cancel' AND applied_at IS NULL",
      values: [run.orgId, run.runId],
    },
  ]);
  return canceled(at, found?.rows[0]?.id);
};

/** The agent could not be reached or its stream broke: nothing the agent did, so its attempts are not counted. */
const unreachable = (at: Recording, error: AppError): RunOutcome | Promise<RunOutcome> => {
  if (error.kind !== "operational") {
    return failed(at, { code: error.code, message: error.message, text: "The agent could not be run." });
  }
  if (Date.now() > at.run.deadline.getTime()) {
    return failed(at, {
      code: "limit_reached",
      message: error.message,
      text: "The run reached its limit timeoutSeconds.",
    });
  }
  const neverStarted = error.code === "agent_unavailable";
  const delayMs = neverStarted ? UNREACHABLE_RETRY_MS : BROKEN_RETRY_MS * 2 ** (at.run.barrenClaims - 1);
  return { kind: "parked", retryAt: new Date(Date.now() + delayMs), counts: neverStarted ? "nothing" : "claim" };
};

const poisoned = (run: LeasedRun): FailureRecord => ({
  code: "run_poisoned",
  message: `Given up after ${run.barrenClaims - 1} attempts that ended without a finished step`,
  text: "The run was given up: it broke off several times without getting anywhere. Retry it when the cause is mended.",
});

const nothingToSpend = (limit: "organization" | "key"): FailureRecord => {
  const name = limit === "key" ? "monthlySpendUsd of the API key" : "spend.monthlyUsd of the organization";
  const text = `The run was not carried on: the limit ${name} is used up for this month.`;
  return { code: "limit_reached", message: text, text };
};
