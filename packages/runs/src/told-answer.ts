import type { JsonObject } from "@shaman/kernel";
import { z } from "zod";
import { foldArtifacts, type ArtifactView } from "./artifacts.ts";
import type { Batch } from "./batch.ts";
import { parsedJsonObject } from "./json-schema.ts";
import type { Recorded } from "./record-batch.ts";
import type { TaskView } from "./task-view.ts";

/** A NOTIFY of PostgreSQL carries less than 8,000 bytes. */
const MAX_BYTES = 4_000;

const toldAnswer = z.object({
  taskId: z.string(),
  at: z.iso.datetime(),
  message: parsedJsonObject.optional(),
  artifacts: z.array(z.object({ artifactId: z.string(), parts: z.array(parsedJsonObject) }).loose()),
});

/**
 * What a short run came to, as text that goes along with the word that it has ended; so whoever waited for it need not
 * look (docs/decisions/034-the-answer-comes-along.md). Only where this one commit is all there is to know beyond what its
 * caller sent: one task, completed without a word before, its artifacts small.
 */
export const tellAnswer = (batch: Batch, recorded: Recorded): string | undefined => {
  const { events, outcome, tasks, agentMessages, userMessages = [] } = batch;
  const [task, ...others] = tasks;
  const isWhole = recorded.lastSeq - events.length === 1 && others.length === 0;
  if (!isWhole || task?.state !== "completed" || outcome?.kind !== "finished") return undefined;
  if (agentMessages.length > 0 || userMessages.length > 0) return undefined;
  const { taskId, message } = task;
  const text = JSON.stringify({ taskId, at: recorded.at, message, artifacts: foldArtifacts(events) });
  return Buffer.byteLength(text) <= MAX_BYTES ? text : undefined;
};

/** The task as its caller knows it, with the answer that was told; nothing where that is of another task. */
export const withAnswer = (
  accepted: TaskView,
  told: { readonly seq: number; readonly answer: string },
): TaskView | undefined => {
  const { taskId, at, message, artifacts } = toldAnswer.parse(JSON.parse(told.answer));
  if (taskId !== accepted.taskId) return undefined;
  return {
    ...accepted,
    state: "completed",
    statusMessage: message satisfies JsonObject | undefined,
    statusAt: new Date(at),
    artifacts: artifacts satisfies readonly ArtifactView[],
    lastSeq: told.seq,
  };
};
