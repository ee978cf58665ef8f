import {
  callDepthMetadata,
  callExternalAgent,
  externalMessageId,
  type ExternalCallDeps,
  type ExternalOutcome,
} from "@shaman/a2a-wire";
import type { TokenContext } from "@shaman/access";
import type { Db } from "@shaman/db";
import type { OutsideCall } from "@shaman/engine";
import { AppError } from "@shaman/kernel";
import { isCancelRequested } from "@shaman/runs";

/**
 * Carries one call of an outside agent to its end, or enters it again. The stream to the worker is closed alike when the
 * run is canceled and when it only goes on elsewhere, so that the agent is asked to cancel its task only where somebody
 * wanted the run canceled, or where the task is over.
 */
export const callOutside = async (
  deps: ExternalCallDeps & { readonly db: Db },
  { tenantId: orgId, runId, taskId, traceparent, budget }: TokenContext,
  call: OutsideCall,
): Promise<ExternalOutcome> => {
  const { outside, position, text, continues, reentry, deadline, signal, isOver, tell } = call;
  const events = callExternalAgent(deps, {
    orgId,
    target: outside.target,
    message: {
      messageId: externalMessageId({ orgId, taskId, position }),
      parts: [{ text }],
      metadata: callDepthMetadata(budget.depth - 1),
    },
    deadline,
    signal,
    // A server that is stopping may have closed its database already; whoever goes on will enter the call again.
    shouldCancel: () => isOver() || isCancelRequested(deps.db, { orgId, runId }).catch(() => false),
    ...continues,
    ...(reentry !== undefined && { reentry }),
    ...(traceparent !== undefined && { traceparent }),
  });
  for await (const event of events) {
    if (event.kind === "outcome") return event.outcome;
    tell(event);
  }
  throw new AppError({
    code: "external_no_outcome",
    kind: "unexpected",
    message: "A call outside ended without an outcome",
  });
};
