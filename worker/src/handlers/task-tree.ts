import type { Db } from "@shaman/db";
import { isTerminal, listTasks, type LeasedRun, type TaskState } from "@shaman/runs";

/** The tasks of a run as far as this attempt knows them, so that each changes only as it may. */
export type TaskTree = {
  readonly agentOf: (taskId: string) => string;
  /** A task that an agent's call has begun. */
  readonly add: (task: { readonly taskId: string; readonly agent: string }) => void;
  /** Whether the task comes to this state now; false where it is there already, or at its end. */
  readonly move: (taskId: string, state: TaskState) => boolean;
  /** Tasks of called agents that have not ended, those as well that only the record knows. */
  readonly listOpen: () => Promise<readonly string[]>;
};

/** Knows the root task, and on a later attempt what earlier ones recorded. */
export const createTaskTree = async (db: Db, run: LeasedRun): Promise<TaskTree> => {
  const tasks = new Map<string, { readonly agent: string; state: TaskState }>();
  tasks.set(run.rootTaskId, { agent: run.agent, state: run.taskState });
  const load = async (): Promise<void> => {
    for (const { taskId, agent, state } of await listTasks(db, run)) {
      if (!tasks.has(taskId)) tasks.set(taskId, { agent, state });
    }
  };
  if (run.epoch > 1) await load();
  return {
    agentOf: (taskId) => tasks.get(taskId)?.agent ?? run.agent,
    add: ({ taskId, agent }) => {
      if (!tasks.has(taskId)) tasks.set(taskId, { agent, state: "submitted" });
    },
    move: (taskId, state) => {
      const task = tasks.get(taskId);
      if (task === undefined || task.state === state || isTerminal(task.state)) return false;
      task.state = state;
      return true;
    },
    listOpen: async () => {
      await load();
      return [...tasks].flatMap(([taskId, { state }]) =>
        taskId === run.rootTaskId || isTerminal(state) ? [] : [taskId],
      );
    },
  };
};
