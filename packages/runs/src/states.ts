import { z } from "zod";

/** State of a task, as A2A has them. */
export const taskState = z.enum([
  "submitted",
  "working",
  "completed",
  "failed",
  "canceled",
  "rejected",
  "input_required",
  "auth_required",
]);
export type TaskState = z.infer<typeof taskState>;

const TERMINAL = ["completed", "failed", "canceled", "rejected"] as const;
export type TerminalState = (typeof TERMINAL)[number];

const terminal: ReadonlySet<string> = new Set(TERMINAL);

/** Whether nothing can happen to the task any more. */
export const isTerminal = (state: string): state is TerminalState => terminal.has(state);

/** Whether the task waits for its caller. */
export const isInterrupted = (state: TaskState): boolean => state === "input_required" || state === "auth_required";

/** States of a run: those of its root task, but that all waiting for people is `suspended`. */
export const RUN_STATES = ["submitted", "working", "suspended", ...TERMINAL] as const;
export type RunState = (typeof RUN_STATES)[number];
