import type { WakeUp } from "@shaman/queue";
import { z } from "zod";

/** The job that makes a worker look at a run. */
export const RUN_EXECUTE = "run.execute";

export const runExecutePayload = z.object({ runId: z.string(), wake: z.int() });

/** The wake-up for one wake of a run. Its job id is the run and the wake, so that adding it twice is one job. */
export const wakeUpOf = (input: {
  readonly orgId: string;
  readonly runId: string;
  readonly wake: number;
  readonly priority: number;
  readonly delayMs?: number;
}): WakeUp => ({
  orgId: input.orgId,
  jobId: `${input.runId}-${input.wake}`,
  name: RUN_EXECUTE,
  data: { runId: input.runId, wake: input.wake },
  priority: input.priority,
  ...(input.delayMs !== undefined && { delayMs: input.delayMs }),
});
