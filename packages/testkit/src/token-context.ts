import type { TokenContext } from "@shaman/access";

/** What a token says of a task that need not be there; what the test says of it is otherwise so. */
export const testTokenContext = (changes: Partial<TokenContext> = {}): TokenContext => ({
  tenantId: "org_1",
  runId: "run_1",
  taskId: "task_1",
  depth: 0,
  initiator: { type: "api_key", id: "key_1" },
  leaseEpoch: 1,
  leaseHolder: "worker:abc",
  attemptsLeft: 0,
  agent: "repo_1:Clerk",
  commit: "0".repeat(40),
  deadline: Date.now() + 60_000,
  budget: { steps: 30, toolCalls: 100, tokens: 200_000, costUsd: 1, depth: 5 },
  ancestors: [],
  ...changes,
});
