export type RunLimits = {
  readonly maxSteps: number;
  readonly maxToolCalls: number;
  readonly maxDepth: number;
  readonly maxTokens: number;
  readonly maxCostUsd: number;
  readonly timeoutSeconds: number;
  /** Attempts after a failure that may pass, and how long before the second. */
  readonly maxAttempts: number;
  readonly backoffSeconds: number;
  /** Content of an artifact beyond this goes to the store; the second is for all artifacts of a run together. */
  readonly artifactInlineBytes?: number;
  readonly artifactTotalBytes?: number;
};

/** An agent's own limits, and the organization's where the agent's file says nothing. */
export const runLimitsOf = (input: {
  readonly agent: { readonly limits: Partial<RunLimits>; readonly retry: Partial<RunLimits> };
  readonly organization: {
    readonly run: Omit<RunLimits, "maxAttempts" | "backoffSeconds">;
    readonly retry: Pick<RunLimits, "maxAttempts" | "backoffSeconds">;
  };
}): RunLimits => {
  const { limits, retry } = input.agent;
  const { run, retry: policy } = input.organization;
  return {
    maxSteps: limits.maxSteps ?? run.maxSteps,
    maxToolCalls: limits.maxToolCalls ?? run.maxToolCalls,
    maxDepth: limits.maxDepth ?? run.maxDepth,
    maxTokens: limits.maxTokens ?? run.maxTokens,
    maxCostUsd: limits.maxCostUsd ?? run.maxCostUsd,
    timeoutSeconds: limits.timeoutSeconds ?? run.timeoutSeconds,
    maxAttempts: retry.maxAttempts ?? policy.maxAttempts,
    backoffSeconds: retry.backoffSeconds ?? policy.backoffSeconds,
    ...(run.artifactInlineBytes !== undefined && { artifactInlineBytes: run.artifactInlineBytes }),
    ...(run.artifactTotalBytes !== undefined && { artifactTotalBytes: run.artifactTotalBytes }),
  };
};
