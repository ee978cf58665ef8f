import type { ExternalTarget, HealthRecorder, OpenedExternalAgent } from "@shaman/external";
import type { AppError } from "@shaman/kernel";

/**
 * The figures of one call for its agent's health. Latency is the time until the first sign of an answer; what the agent
 * makes of the task is not its health.
 */
export const startFigures = (
  deps: { readonly health?: Pick<HealthRecorder, "record"> },
  { orgId, target }: { readonly orgId: string; readonly target: ExternalTarget },
) => {
  const startMs = performance.now();
  let id = target.kind === "registered" ? target.externalAgentId : undefined;
  let latencyMs: number | undefined;
  return {
    opened: (agent: OpenedExternalAgent): void => {
      id = agent.id;
    },
    answered: (): void => {
      latencyMs ??= performance.now() - startMs;
    },
    ended: (error?: AppError): void => {
      // Not the agent's doing.
      if (id === undefined || error?.code === "external_outcome_unknown") return;
      const figures = { orgId, externalAgentId: id, latencyMs: latencyMs ?? performance.now() - startMs };
      deps.health?.record({ ...figures, ...(error !== undefined && { error: error.code }) });
    },
  };
};
