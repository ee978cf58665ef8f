import { approvalIdOf } from "@shaman/runs";
import { z } from "zod";
import type { Suspension } from "./engine-event.ts";
import { hashOf, recordedAt, tell, type Events, type PlannedCall, type RunState } from "./run-state.ts";

type Decision =
  | { readonly kind: "approved" }
  | { readonly kind: "refused"; readonly text: string }
  | { readonly kind: "suspended"; readonly suspension: Suspension };

/** What a worker records for a decision of a person. */
const decided = z.object({ decision: z.enum(["approve", "refuse"]), reason: z.string().optional() });

const MAX_SHOWN_CHARS = 2_000;

/**
 * Waits for a person's decision about one tool call. The approval's id and the step's hash derive from tool and
 * arguments, so that what was approved is what runs.
 */
export async function* approvalStep(
  state: RunState,
  plan: PlannedCall,
  position: number,
  server: string | undefined,
): Events<Decision> {
  const { name, input } = plan.call;
  const inputHash = hashOf(["approval", name, input]);
  const recorded = recordedAt(state, { position, kind: "approval", inputHash });
  if (recorded !== undefined && recorded.state !== "started") {
    const { decision, reason } = decided.parse(recorded.output);
    if (decision === "approve") return { kind: "approved" };
    const why = reason === undefined || reason === "" ? "No reason was given." : `The reason given: ${reason}`;
    return { kind: "refused", text: `A person refused this call of ${name}; it was not made. ${why}` };
  }
  const { taskId, definition } = state.input;
  const approvalId = approvalIdOf({ taskId, position, inputHash });
  if (recorded === undefined) {
    yield tell(state, {
      position,
      kind: "approval",
      name,
      inputHash,
      state: "started",
      input: { approvalId, arguments: input },
    });
  }
  const shown = JSON.stringify(input);
  const cut = shown.length > MAX_SHOWN_CHARS ? `${shown.slice(0, MAX_SHOWN_CHARS)}…` : shown;
  const parts = [
    {
      text: `The agent ${definition.name} wants to call the tool ${name} and waits for approval (${approvalId}). Arguments: ${cut}`,
    },
    {
      data: {
        approval: {
          id: approvalId,
          agent: definition.name,
          tool: name,
          ...(server !== undefined && { server }),
          arguments: input,
        },
      },
      mediaType: "application/json",
    },
  ];
  const waitsFor = { kind: "approval" as const, taskId, position, approvalId };
  return { kind: "suspended", suspension: { kind: "person", waitsFor, parts } };
}
