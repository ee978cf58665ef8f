import { newId, unwrap } from "@shaman/kernel";
import type { FanOut, JobQueue } from "@shaman/queue";
import { acceptMessage, type AcceptDeps, type Accepted, type AcceptInput } from "@shaman/runs";
import type { TestDatabase } from "./test-database.ts";

/** A queue that wakes nobody, for tests that do the worker's part themselves. */
export const QUIET_QUEUE: JobQueue = {
  add: async () => undefined,
  addAgain: async () => undefined,
  take: async () => undefined,
  giveBack: async () => undefined,
  dropAbandoned: async () => undefined,
  onAdded: async () => undefined,
  close: async () => undefined,
};

/** A fan-out that tells nobody. */
export const QUIET_FAN_OUT: FanOut = {
  publish: () => undefined,
  byNotify: false,
  subscribe: async () => undefined,
  onGap: () => undefined,
  close: async () => undefined,
};

/** A fan-out within this process, one handler a channel. */
export const localFanOut = (): FanOut => {
  const handlers = new Map<string, (payload: string) => void>();
  return {
    ...QUIET_FAN_OUT,
    publish: (channel, payload) => handlers.get(channel)?.(payload),
    subscribe: async (channel, handler) => void handlers.set(channel, handler),
  };
};

const LIMITS = {
  maxSteps: 30,
  maxToolCalls: 100,
  maxDepth: 5,
  maxTokens: 1_000,
  maxCostUsd: 1,
  timeoutSeconds: 600,
  maxAttempts: 3,
  backoffSeconds: 1,
};

/** Accepts a message as the public server does, for an agent that need not be there; what the test says of it is otherwise so. */
export const acceptTestRun = async (
  database: TestDatabase,
  input: Partial<AcceptInput> & Pick<AcceptInput, "orgId">,
  deps: Partial<AcceptDeps> = {},
): Promise<Accepted> =>
  unwrap(
    await acceptMessage(
      { db: database.as("public"), queue: QUIET_QUEUE, onEnqueueFailed: () => undefined, ...deps },
      {
        principal: "key:test",
        apiKeyId: null,
        userId: null,
        agent: "Clerk",
        repositoryId: "repo_1",
        commit: "c1",
        limits: LIMITS,
        spendIsLimited: false,
        priority: 3,
        message: { messageId: newId("msg"), role: "ROLE_USER", parts: [{ text: "hello" }] },
        contextId: undefined,
        messageId: null,
        idempotencyKey: undefined,
        traceparent: undefined,
        ip: undefined,
        protocol: "test",
        ...input,
      },
    ),
  );
