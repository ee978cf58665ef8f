import type { AgentLimits } from "./agent-definition.ts";

export type CompleteLimits = Required<AgentLimits>;

/** What a run gets when neither its agent nor its organization says otherwise. */
export const DEFAULT_LIMITS: CompleteLimits = {
  maxSteps: 30,
  maxToolCalls: 100,
  maxDepth: 5,
  maxTokens: 200_000,
  maxCostUsd: 1,
  timeoutSeconds: 600,
};

/** The most an agent file may ask for, unless the installation is configured otherwise. */
export const MAXIMUM_LIMITS: CompleteLimits = {
  maxSteps: 200,
  maxToolCalls: 1_000,
  maxDepth: 10,
  maxTokens: 5_000_000,
  maxCostUsd: 100,
  timeoutSeconds: 86_400,
};
