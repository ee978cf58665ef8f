import { setTimeout as sleep } from "node:timers/promises";
import { toAppError } from "@shaman/kernel";

/** Something that runs: a process of ours, or PostgreSQL. */
export type Running = {
  readonly pid: number;
  /** Resolves when it ended, with the end of a sentence: "ended with status 1". */
  readonly exited: Promise<string>;
  /** Asks it to stop and waits; bounded, with force at the end. */
  readonly stop: () => Promise<void>;
};

export type Service = {
  readonly name: string;
  readonly spawn: () => Promise<Running> | Running;
  /** Resolves when it can serve; rejects when the signal is aborted or it never can. */
  readonly ready: (signal: AbortSignal) => Promise<void>;
};

export type Supervisor = {
  /** Starts a service after those before it and resolves when it is ready; from then on it is started again when it ends. */
  readonly start: (service: Service) => Promise<void>;
  /** Stops everything, the last started first. May be called at any time and more than once. */
  readonly stop: () => Promise<void>;
  readonly processes: () => readonly { readonly name: string; readonly pid: number }[];
};

export type SupervisorDeps = {
  readonly log: (name: string, line: string) => void;
  /** Called after a process was replaced by another one. */
  readonly onReplaced: () => void;
  readonly backoff?: { readonly firstMs: number; readonly maxMs: number };
};

const BACKOFF = { firstMs: 250, maxMs: 15_000 };
/** A process that lived this long had a good start: its next end begins with the first delay again. */
const STEADY_MS = 30_000;

type Entry = { readonly service: Service; running: Running; failures: number };

/** Starts services in order, starts again what ends, and stops all in reverse order. */
export const createSupervisor = (deps: SupervisorDeps): Supervisor => {
  const backoff = deps.backoff ?? BACKOFF;
  const entries: Entry[] = [];
  const stopping = new AbortController();
  let stopped: Promise<void> | undefined;
  let spawning: Promise<unknown> = Promise.resolve();

  /** Waits until the service is ready; rejects when it ends before, or when everything is being stopped. */
  const becomeReady = async (service: Service, running: Running): Promise<void> => {
    const given = new AbortController();
    const ended = running.exited.then((how) => {
      throw new Error(`${service.name} ${how} before it was ready`);
    });
    try {
      await Promise.race([service.ready(AbortSignal.any([stopping.signal, given.signal])), ended]);
    } finally {
      given.abort();
      // The race is decided: what the process does later is the watcher's matter.
      ended.catch(() => undefined);
    }
  };

  const replace = async (entry: Entry): Promise<void> => {
    const spawned = Promise.resolve(entry.service.spawn());
    spawning = spawned.then((running) => (entry.running = running));
    await spawning;
    deps.onReplaced();
    await becomeReady(entry.service, entry.running);
    deps.log(entry.service.name, `is ready again (process ${entry.running.pid}).`);
  };

  const watch = async (entry: Entry): Promise<void> => {
    while (!stopping.signal.aborted) {
      const since = Date.now();
      const how = await entry.running.exited;
      if (stopping.signal.aborted) return;
      entry.failures = Date.now() - since > STEADY_MS ? 1 : entry.failures + 1;
      const delayMs = Math.min(backoff.firstMs * 2 ** (entry.failures - 1), backoff.maxMs);
      deps.log(entry.service.name, `${how}; it is started again in ${delayMs / 1000} s.`);
      try {
        await sleep(delayMs, undefined, { signal: stopping.signal });
        await replace(entry);
      } catch (thrown) {
        if (!stopping.signal.aborted) deps.log(entry.service.name, `did not start: ${toAppError(thrown).message}`);
      }
    }
  };

  const stopAll = async (): Promise<void> => {
    stopping.abort();
    // What is just being started must not slip through.
    await spawning.catch(() => undefined);
    for (const { service, running } of entries.toReversed()) {
      try {
        await running.stop();
      } catch (thrown) {
        deps.log(service.name, `could not be stopped: ${toAppError(thrown).message}`);
      }
    }
  };

  return {
    start: async (service) => {
      stopping.signal.throwIfAborted();
      const spawned = Promise.resolve(service.spawn()).then((running) => {
        const entry: Entry = { service, running, failures: 0 };
        entries.push(entry);
        return entry;
      });
      spawning = spawned;
      const entry = await spawned;
      await becomeReady(service, entry.running);
      void watch(entry);
    },
    stop: () => (stopped ??= stopAll()),
    processes: () => entries.map(({ service, running }) => ({ name: service.name, pid: running.pid })),
  };
};
