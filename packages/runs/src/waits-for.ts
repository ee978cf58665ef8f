import { hash } from "node:crypto";
import { z } from "zod";

/** The step that a suspended run waits for, wherever in its tree of tasks it is. */
export const waitsFor = z.object({
  kind: z.enum(["input", "approval"]),
  taskId: z.string(),
  position: z.int(),
  /** Of an approval: what a decision must name. */
  approvalId: z.string().optional(),
});
export type WaitsFor = z.output<typeof waitsFor>;

const ID_CHARS = 26;

/**
 * The id of an approval. It derives from the step and from the hash of tool and arguments, so that a decision that names
 * it can never be one about other arguments.
 */
export const approvalIdOf = (step: {
  readonly taskId: string;
  readonly position: number;
  readonly inputHash: string;
}): string =>
  `approval_${hash("sha256", `${step.taskId}\n${step.position}\n${step.inputHash}`, "hex").slice(0, ID_CHARS)}`;
