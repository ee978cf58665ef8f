import type { Db } from "@shaman/db";
import { CHANNELS, type FanOut } from "@shaman/queue";

export type RunWatch = {
  /** Resolves when events after `seq` are committed, by the nudge or, where that was lost, by the slow poll; or on abort. */
  readonly beyond: (seq: number, signal: AbortSignal) => Promise<void>;
  /** What the run came to, where that was told along with its end. */
  readonly told: () => Told | undefined;
  readonly stop: () => void;
};

export type RunWatcher = {
  /** Start watching before you read, so that nothing committed in between is missed. */
  readonly watch: (run: { readonly orgId: string; readonly runId: string }) => RunWatch;
  readonly close: () => void;
};

/** A run's answer (`told-answer.ts`), and the number of its last event. */
export type Told = { readonly seq: number; readonly answer: string };

type Watched = {
  readonly orgId: string;
  seq: number;
  told: Told | undefined;
  watches: number;
  readonly waiting: Set<() => void>;
};

const POLL_MS = 2_000;
/** Of so many runs it is remembered that they are on record, for those who begin to watch them only then. */
const MAX_NEW = 1_000;

// Looks up each run by its key; asked for as a list, they might be looked for among all of the organization's.
const POLL = `SELECT r.id, r.last_seq FROM unnest($2::text[]) AS i (run_id),
  LATERAL (SELECT id, last_seq FROM run WHERE run.org_id = $1 AND run.id = i.run_id OFFSET 0) r`;

/**
 * Wakes the readers of runs in this process: by the nudge that follows each commit, and by a slow poll of all watched
 * runs together, because nudges may be lost. Memory is a few hundred bytes a watched run.
 */
export const createRunWatcher = async (deps: {
  readonly db: Pick<Db, "batch">;
  readonly fanOut: FanOut;
  /** `goingOn` hears nothing of a run's end: for those who work on it. */
  readonly channel?: "run" | "goingOn";
  readonly onError: (error: Error) => void;
}): Promise<RunWatcher> => {
  const runs = new Map<string, Watched>();
  // Runs that came on record while nobody watched them, the latest last.
  const fresh = new Set<string>();

  const reached = (runId: string, seq: number, answer?: string): void => {
    const watched = runs.get(runId);
    if (watched === undefined || seq <= watched.seq) return;
    watched.seq = seq;
    watched.told = answer === undefined ? undefined : { seq, answer };
    for (const wake of watched.waiting) wake();
  };

  const poll = async (): Promise<void> => {
    const byOrg = Map.groupBy(runs, ([, watched]) => watched.orgId);
    for (const [orgId, entries] of byOrg) {
      const ids = entries.map(([runId]) => runId);
      const statement = {
        name: "poll_runs",
        text: POLL,
        values: [orgId, ids],
      };
      const [found] = await deps.db.batch(orgId, [statement]);
      for (const row of found?.rows ?? []) reached(row.id, row.last_seq);
    }
  };

  let polling = false;
  const pollOnce = (): void => {
    if (polling || runs.size === 0) return;
    polling = true;
    poll()
      .catch((error: unknown) => deps.onError(error instanceof Error ? error : new Error(String(error))))
      .finally(() => {
        polling = false;
      });
  };

  const remember = (runId: string): void => {
    fresh.add(runId);
    const [oldest] = fresh.size > MAX_NEW ? fresh : [];
    if (oldest !== undefined) fresh.delete(oldest);
  };

  await deps.fanOut.subscribe(CHANNELS[deps.channel ?? "run"], (payload) => {
    const [, runId = "", seq, answer] = PAYLOAD.exec(payload) ?? [];
    if (seq === "1" && !runs.has(runId)) remember(runId);
    reached(runId, Number(seq), answer);
  });
  deps.fanOut.onGap(pollOnce);
  const timer = setInterval(pollOnce, POLL_MS);
  timer.unref();

  return {
    watch: ({ orgId, runId }) => {
      const known = fresh.delete(runId) ? 1 : 0;
      const watched = runs.get(runId) ?? { orgId, seq: known, told: undefined, watches: 0, waiting: new Set() };
      runs.set(runId, watched);
      watched.watches += 1;
      return {
        beyond: (seq, signal) => waitBeyond(watched, seq, signal),
        told: () => watched.told,
        stop: () => {
          watched.watches -= 1;
          if (watched.watches === 0) runs.delete(runId);
        },
      };
    },
    close: () => clearInterval(timer),
  };
};

const waitBeyond = (watched: Watched, seq: number, signal: AbortSignal): Promise<void> => {
  if (watched.seq > seq || signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const wake = (): void => {
      watched.waiting.delete(wake);
      signal.removeEventListener("abort", wake);
      resolve();
    };
    watched.waiting.add(wake);
    signal.addEventListener("abort", wake);
  });
};

/**
 * Resolves once the run is on record, of which it was told before that (docs/decisions/038-a-run-is-announced.md). Rejects with the signal's reason
 * when that is aborted first.
 */
export const whenOnRecord = async (
  watcher: RunWatcher,
  run: { readonly orgId: string; readonly runId: string },
  signal: AbortSignal,
): Promise<void> => {
  const watch = watcher.watch(run);
  try {
    await watch.beyond(0, signal);
    signal.throwIfAborted();
  } finally {
    watch.stop();
  }
};

/** Run id, last event number, and the answer where that comes along. */
const PAYLOAD = /^(\w+):(\d+)(?::(.+))?$/s;

/** The nudge after the intake of a run that was announced before it. */
export const tellOnRecord = (fanOut: Pick<FanOut, "publish">, runId: string): void =>
  fanOut.publish(CHANNELS.goingOn, `${runId}:1`);

/** The nudge after a commit. */
export const nudgeRun = (
  fanOut: FanOut,
  commit: {
    readonly runId: string;
    readonly seq: number;
    readonly goesOn: boolean;
    readonly answer?: string | undefined;
  },
): void => {
  const payload = `${commit.runId}:${commit.seq}`;
  fanOut.publish(CHANNELS.run, commit.answer === undefined ? payload : `${payload}:${commit.answer}`);
  if (commit.goesOn) fanOut.publish(CHANNELS.goingOn, payload);
};
