import { toJsonb } from "@shaman/db";
import { z } from "zod";
import { isWithdrawn } from "./artifacts.ts";
import type { Batch } from "./batch.ts";
import { parsedJsonObject, parsedJsonText } from "./json-schema.ts";
import type { Recorded } from "./record-batch.ts";
import type { TaskView } from "./task-view.ts";

/** A NOTIFY of PostgreSQL carries less than 8,000 bytes. */
const MAX_BYTES = 4_000;

const artifact = z.object({
  artifactId: z.string(),
  name: z.string().nullable(),
  description: z.string().nullable(),
  parts: z.array(parsedJsonObject),
  metadata: parsedJsonObject.nullable(),
});

const toldAnswer = parsedJsonText.pipe(
  z.object({
    taskId: z.string(),
    at: z.iso.datetime(),
    message: parsedJsonObject.optional(),
    artifacts: z.array(artifact),
  }),
);

/**
 * What a short run came to, as text that goes along with the word that it has ended; so whoever waited for it need not
 * look (docs/decisions/034-the-answer-comes-along.md). Only where this one commit is all there is to know beyond what its
 * caller sent: one task, completed without a word before, at most one artifact, and that small.
 */
export const tellAnswer = (batch: Batch, recorded: Recorded): string | undefined => {
  const { events, outcome, tasks, agentMessages, userMessages = [], artifacts } = batch;
  const [task, ...others] = tasks;
  const isWhole = recorded.lastSeq - events.length === 1 && others.length === 0;
  if (!isWhole || task?.state !== "completed" || outcome?.kind !== "finished") return undefined;
  if (agentMessages.length > 0 || userMessages.length > 0 || artifacts.length > 1) return undefined;
  const { taskId, message } = task;
  // What the rows get, cleaned as they are.
  const shown = artifacts
    .filter((artifact) => !isWithdrawn(artifact))
    .map(({ artifactId, name = null, description = null, parts, metadata = null }) => {
      return { artifactId, name, description, parts, metadata };
    });
  const text = toJsonb({ taskId, at: recorded.at, message, artifacts: shown });
  return Buffer.byteLength(text) <= MAX_BYTES ? text : undefined;
};

/** The task as its caller knows it, with the answer that was told; nothing where that cannot be read or is of another task. */
export const withAnswer = (
  accepted: TaskView,
  told: { readonly seq: number; readonly answer: string },
): TaskView | undefined => {
  const read = toldAnswer.safeParse(told.answer);
  if (!read.success || read.data.taskId !== accepted.taskId) return undefined;
  const { at, message, artifacts } = read.data;
  return {
    ...accepted,
    state: "completed",
    statusMessage: message,
    statusAt: new Date(at),
    artifacts,
    lastSeq: told.seq,
  };
};
