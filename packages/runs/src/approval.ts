import { isJsonObject, type JsonObject } from "@shaman/kernel";
import { z } from "zod";

/** A decision about an approval, as a data part of an A2A Message holds it: `{"approval": {"id", "decision", "reason"?}}`. */
const approvalPart = z.object({
  approval: z.object({
    id: z.string().max(128),
    decision: z.enum(["approve", "refuse"]),
    reason: z.string().max(10_000).optional(),
  }),
});
export type ApprovalDecision = z.output<typeof approvalPart>["approval"];

/** Parts of a message, by what stands in them as data. */
const dataOf = (message: JsonObject) =>
  (Array.isArray(message.parts) ? message.parts : []).flatMap((part) => (isJsonObject(part) ? [part.data] : []));

const namesApproval = z.object({ approval: z.object({ id: z.string().startsWith("approval_") }) });

/** Whether a message means to decide about an approval and does not say how: that is neither a yes nor a no. */
export const isUnclearDecision = (message: JsonObject): boolean =>
  findDecision(message) === undefined && dataOf(message).some((data) => namesApproval.safeParse(data).success);

/** The decision that a message holds, if it holds one. Text never approves anything: it may have been meant for another question. */
export const findDecision = (message: JsonObject): ApprovalDecision | undefined => {
  for (const data of dataOf(message)) {
    const decision = approvalPart.safeParse(data);
    if (decision.success) return decision.data.approval;
  }
  return undefined;
};
