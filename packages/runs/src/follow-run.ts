import type { Db } from "@shaman/db";
import type { RecordedEvent } from "./events.ts";
import { readEvents } from "./read-events.ts";
import type { RunWatcher } from "./run-watcher.ts";

/**
 * The run's events after `afterSeq`: those recorded, then those to come, each once and in order, until the signal is
 * aborted or the reader stops. Memory does not grow with the run: it reads on only when the reader asks.
 */
export async function* followRun(
  deps: { readonly db: Db; readonly watcher: RunWatcher },
  run: { readonly orgId: string; readonly runId: string; readonly afterSeq: number; readonly signal: AbortSignal },
): AsyncGenerator<RecordedEvent, void, undefined> {
  const watch = deps.watcher.watch(run);
  let seq = run.afterSeq;
  try {
    while (!run.signal.aborted) {
      const events = await readEvents(deps.db, { orgId: run.orgId, runId: run.runId, afterSeq: seq });
      for (const event of events) {
        yield event;
        seq = event.seq;
      }
      if (events.length === 0) await watch.beyond(seq, run.signal);
    }
  } finally {
    watch.stop();
  }
}
