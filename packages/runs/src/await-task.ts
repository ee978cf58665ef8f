import type { Db } from "@shaman/db";
import type { RunWatcher } from "./run-watcher.ts";
import { isInterrupted, isTerminal, type TaskState } from "./states.ts";
import { withAnswer } from "./told-answer.ts";
import { findTask, type TaskQuery, type TaskView } from "./task-view.ts";

/** Whether a blocking caller has its answer (A2A 1.0.1 §3.2.2). */
export const isSettled = (state: TaskState): boolean => isTerminal(state) || isInterrupted(state);

/**
 * Waits until the task is terminal or interrupted, or until the signal is aborted, and gives it as it is then.
 * `afterSeq` is the last event the caller knows: the task is not looked at before there is a newer one. 0 looks at once.
 */
export const awaitTask = async (
  deps: { readonly db: Db; readonly watcher: RunWatcher },
  input: {
    readonly query: TaskQuery;
    readonly runId: string;
    readonly afterSeq: number;
    /** The task as it was accepted, where `afterSeq` is that: an answer told along with the end of the run completes it. */
    readonly accepted?: TaskView;
    readonly signal: AbortSignal;
  },
): Promise<TaskView | undefined> => {
  const watch = deps.watcher.watch({ orgId: input.query.orgId, runId: input.runId });
  let seq = input.afterSeq;
  try {
    for (;;) {
      if (seq > 0) await watch.beyond(seq, input.signal);
      const told = watch.told();
      const answered = told && input.accepted && withAnswer(input.accepted, told);
      if (answered !== undefined) return answered;
      const task = await findTask(deps.db, input.query);
      if (task === undefined || isSettled(task.state) || input.signal.aborted) return task;
      seq = task.lastSeq;
    }
  } finally {
    watch.stop();
  }
};
