import type { Db } from "@shaman/db";
import { isTerminal, listTasks, type LeasedRun, type TaskState } from "@shaman/runs";

/** The tasks of a run as far as this attempt knows them, so that each changes only as it may. */
export type TaskTree = {
  readonly agentOf: (taskId: string) => string;
  /** A task that an agent's call has begun. */
  readonly add: (task: { readonly taskId: string; readonly agent: string; readonly parentTaskId: string }) => void;
  /** Whether the task comes to this state now; false where it is there already, or at its end. */
  readonly move: (taskId: string, state: TaskState) => boolean;
  /** Tasks below this one that have not ended, those as well that only the record knows. */
  readonly listOpenBelow: (taskId: string) => Promise<readonly string[]>;
};

/** Knows the root task, and on a later attempt what earlier ones recorded. */
export const createTaskTree = async (db: Db, run: LeasedRun): Promise<TaskTree> => {
  // Parents come before their children.
  const tasks = new Map<string, { readonly agent: string; readonly parentTaskId: string | null; state: TaskState }>();
  tasks.set(run.rootTaskId, { agent: run.agent, parentTaskId: null, state: run.taskState });
  const load = async (): Promise<void> => {
    for (const { taskId, ...task } of await listTasks(db, run)) {
      if (!tasks.has(taskId)) tasks.set(taskId, task);
    }
  };
  if (run.epoch > 1) await load();
  return {
    agentOf: (taskId) => tasks.get(taskId)?.agent ?? run.agent,
    add: ({ taskId, agent, parentTaskId }) => {
      if (!tasks.has(taskId)) tasks.set(taskId, { agent, parentTaskId, state: "submitted" });
    },
    move: (taskId, state) => {
      const task = tasks.get(taskId);
      if (task === undefined || task.state === state || isTerminal(task.state)) return false;
      task.state = state;
      return true;
    },
    listOpenBelow: async (top) => {
      await load();
      const below = new Set([top]);
      for (const [taskId, { parentTaskId }] of tasks) if (below.has(parentTaskId ?? "")) below.add(taskId);
      return [...tasks].flatMap(([taskId, { state }]) =>
        taskId === top || !below.has(taskId) || isTerminal(state) ? [] : [taskId],
      );
    },
  };
};
