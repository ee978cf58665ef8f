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

/** The decision that a message holds, if it holds one. Text never approves anything: it may have been meant for another question. */
export const findDecision = (message: JsonObject): ApprovalDecision | undefined => {
  const parts = Array.isArray(message.parts) ? message.parts : [];
  for (const part of parts) {
    if (!isJsonObject(part)) continue;
    const decision = approvalPart.safeParse(part.data);
    if (decision.success) return decision.data.approval;
  }
  return undefined;
};
