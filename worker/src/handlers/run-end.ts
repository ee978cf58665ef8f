import { newId, type JsonObject } from "@shaman/kernel";
import { isTerminal, type LeasedRun, type RunOutcome, type RunRecorder } from "@shaman/runs";
import type { TaskTree } from "./task-tree.ts";

/** A run under this worker's lease, with what is recorded of it. */
export type Recording = { readonly run: LeasedRun; readonly recorder: RunRecorder; readonly tree: TaskTree };

export const auditOf = (
  run: LeasedRun,
  { result, state }: { readonly result: "ok" | "failed"; readonly state: string },
) => ({
  orgId: run.orgId,
  actor: run.apiKeyId === null ? run.principal : `key:${run.apiKeyId}`,
  action: `task:${state}`,
  resource: run.rootTaskId,
  result,
  agent: run.agent,
  runId: run.runId,
  taskId: run.rootTaskId,
  traceId: run.traceparent?.split("-")[1],
  userId: run.userId ?? undefined,
  server: "worker",
});

export type FailureRecord = { readonly code: string; readonly message: string; readonly text: string };

export const failed = async (at: Recording, { code, message, text }: FailureRecord): Promise<RunOutcome> => {
  const { run, recorder } = at;
  await endBelow(at, run.rootTaskId);
  recorder.status({ taskId: run.rootTaskId, state: "failed", message: agentMessage(run, text) });
  recorder.audit(auditOf(run, { result: "failed", state: "failed" }));
  return { kind: "finished", state: "failed", error: { code, message } };
};

export const canceled = async (at: Recording, commandId: unknown): Promise<RunOutcome> => {
  const { run, recorder } = at;
  if (typeof commandId === "string") recorder.applied(commandId);
  await endBelow(at, run.rootTaskId);
  if (!isTerminal(run.taskState)) recorder.status({ taskId: run.rootTaskId, state: "canceled" });
  recorder.audit(auditOf(run, { result: "ok", state: "canceled" }));
  return { kind: "finished", state: "canceled" };
};

/** Tasks below one that ends early end before it does: nobody works on them any more. */
export const endBelow = async ({ recorder, tree }: Recording, top: string): Promise<void> => {
  for (const taskId of await tree.listOpenBelow(top)) {
    if (tree.move(taskId, "canceled")) recorder.status({ taskId, state: "canceled" });
  }
};

const agentMessage = (run: LeasedRun, text: string): JsonObject => ({
  messageId: newId("msg"),
  contextId: run.contextId,
  taskId: run.rootTaskId,
  role: "ROLE_AGENT",
  parts: [{ text }],
});
