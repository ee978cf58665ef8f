import { z } from "zod";
import type { RemoteTask } from "./answer-state.ts";

/** What the row of a call of an outside agent holds, for whoever enters the call again, or cancels its task. */

/** An agent outside of the organization. */
const outsideAgent = z.object({
  /** As the calling agent calls it. */
  name: z.string(),
  /** What it is registered as, or the origin that an alias names; for lists and audit. */
  server: z.string(),
  target: z.discriminatedUnion("kind", [
    z.object({ kind: z.literal("registered"), externalAgentId: z.string(), name: z.string() }),
    z.object({ kind: z.literal("url"), url: z.string(), name: z.string() }),
  ]),
});
export type OutsideAgent = z.output<typeof outsideAgent>;

const exactRemote = ({
  taskId,
  contextId,
}: {
  taskId?: string | undefined;
  contextId?: string | undefined;
}): RemoteTask => ({
  ...(taskId !== undefined && { taskId }),
  ...(contextId !== undefined && { contextId }),
});

/** The task that an outside agent works on, by its own ids. */
export const remoteTask = z
  .object({ taskId: z.string().optional(), contextId: z.string().optional() })
  .transform(exactRemote);

/** The step's input, committed before the call is made. */
export const startedOutside = z.object({
  agent: z.string(),
  message: z.string(),
  outside: outsideAgent,
  /** The task of that agent that the message answers. */
  continues: remoteTask.optional(),
});
export type StartedOutside = z.output<typeof startedOutside>;

/** The output of a step that is still open, as soon as there is something to know. */
export const openOutside = z.object({
  remote: remoteTask.optional(),
  /** The lease under which the agent refused the message as a whole, to take it later. */
  refusedUnder: z.int().optional(),
});
