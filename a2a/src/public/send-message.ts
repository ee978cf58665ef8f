import { allowedCallDepth, invalidParams, type SendParams } from "@shaman/a2a-wire";
import { agentResource, type Authenticator } from "@shaman/access";
import { asStored, type Db } from "@shaman/db";
import { abortAfter, isId, unwrap, userError, type AppError, type Tally } from "@shaman/kernel";
import type { FanOut } from "@shaman/queue";
import {
  acceptMessage,
  answerTask,
  awaitTask,
  findTask,
  isSettled,
  isUnclearDecision,
  isTerminal,
  makeDurable,
  runLimitsOf,
  type AcceptDeps,
  type RunWatcher,
  type TaskView,
} from "@shaman/runs";
import type { Call } from "./call.ts";
import type { DownloadUrls } from "./download-urls.ts";
import type { QueueDepth } from "./queue-depth.ts";
import { tooManyRequests } from "./rate-limits.ts";

export type SendDeps = AcceptDeps & {
  readonly db: Db;
  readonly fanOut: FanOut;
  readonly watcher: RunWatcher;
  /** Sends of each organization that wait for their answer. */
  readonly calls: Tally;
  readonly isQueueFull: QueueDepth;
  readonly downloads: DownloadUrls;
};

/** A message that was taken: for a new task, or for one that waited. */
export type Taken = {
  readonly runId: string;
  readonly taskId: string;
  readonly contextId: string;
  /** The last event the caller knows of by this answer; 0 when it knows none. */
  readonly afterSeq: number;
  /** The task as it is, where that is known without looking. */
  readonly view?: TaskView;
};

const DEFAULT_PRIORITY = 3;
const QUEUE_FULL_RETRY_MS = 5_000;

export const taskNotFound = (): AppError =>
  userError("task_not_found", "There is no such task here. Check its id, and that you ask the agent it was sent to.");

/** The task if it is this caller's and was sent to this agent. */
export const visibleTask = async (deps: SendDeps, call: Call, taskId: string): Promise<TaskView> => {
  const { organization, principal, agent, historyLength } = call;
  // What no task of ours is called is not looked for: callers may send any text as an id.
  if (!isId("task", taskId)) throw taskNotFound();
  const task = await findTask(deps.db, {
    orgId: organization.id,
    taskId,
    principal: principal.id,
    agent: agent.definition.name,
    ...(historyLength !== undefined && { historyLength }),
  });
  if (task === undefined) throw taskNotFound();
  return task;
};

export type Intake = {
  readonly send: SendParams;
  /** `later` only where the caller hears nothing before the run has committed its end: that commit covers the intake. */
  readonly durable: "at once" | "later";
};

/** Takes a checked message: starts a task, or answers one that waits (A2A 1.0.1 §3.1.1, §3.4). Throws `AppError`. */
export const takeMessage = (deps: SendDeps, call: Call, { send, durable }: Intake): Promise<Taken> => {
  if (send.asksForPush) {
    throw userError(
      "push_notification_not_supported",
      "This agent does not send push notifications. Leave taskPushNotificationConfig out.",
    );
  }
  return send.taskId === undefined
    ? startTask(deps, call, { send, durable })
    : continueTask(deps, call, { ...send, taskId: send.taskId });
};

const startTask = async (deps: SendDeps, call: Call, { send, durable }: Intake): Promise<Taken> => {
  const { organization, principal, agent } = call;
  const { definition } = agent;
  if (await deps.isQueueFull(organization.id, organization.settings.intake.queuedRuns)) {
    throw tooManyRequests(QUEUE_FULL_RETRY_MS, "This organization has as many unfinished runs as it may.");
  }
  const limits = runLimitsOf({ agent: definition, organization: organization.settings });
  const accepted = unwrap(
    await acceptMessage(deps, {
      orgId: organization.id,
      principal: principal.id,
      apiKeyId: principal.apiKeyId,
      userId: principal.userId ?? null,
      agent: definition.name,
      repositoryId: agent.repositoryId,
      commit: agent.commit,
      spendIsLimited: organization.settings.spend.monthlyUsd !== undefined || principal.spendIsLimited === true,
      limits: { ...limits, maxDepth: allowedCallDepth(send.message, limits.maxDepth) },
      priority: Math.min(definition.priority ?? DEFAULT_PRIORITY, principal.priority ?? DEFAULT_PRIORITY),
      // Its context is part of what a message says: the same one for another context is no repeat.
      message: send.contextId === undefined ? send.message : { ...send.message, contextId: send.contextId },
      contextId: send.contextId,
      messageId: definition.deduplicate ? send.messageId : null,
      idempotencyKey: call.idempotencyKey,
      traceparent: call.traceparent,
      ip: call.ip,
      protocol: call.protocol,
      durable,
    }),
  );
  const { runId, taskId, contextId, created, at } = accepted;
  if (!created) return { runId, taskId, contextId, afterSeq: 0 };
  const view: TaskView = {
    orgId: organization.id,
    runId,
    taskId,
    contextId,
    agent: definition.name,
    principal: principal.id,
    state: "submitted",
    statusMessage: undefined,
    statusAt: at,
    artifacts: [],
    history: send.historyLength === 0 ? undefined : [asStored({ ...send.message, taskId, contextId })],
    lastSeq: 1,
  };
  return { runId, taskId, contextId, afterSeq: 1, view };
};

const continueTask = async (
  deps: SendDeps,
  call: Call,
  send: SendParams & { readonly taskId: string },
): Promise<Taken> => {
  const { organization, principal, agent } = call;
  const task = await visibleTask(deps, { ...call, historyLength: 0 }, send.taskId);
  const { runId, taskId, contextId } = task;
  if (send.contextId !== undefined && send.contextId !== contextId) {
    throw invalidParams([
      { field: "message.contextId", description: "is not the context of the task that taskId names" },
    ]);
  }
  if (isUnclearDecision(send.message)) {
    const description = 'must say {"approval": {"id", "decision", "reason"?}} with the decision "approve" or "refuse"';
    throw invalidParams([{ field: "message.parts", description }]);
  }
  const answered = await answerTask(deps, {
    orgId: organization.id,
    runId,
    taskId,
    contextId,
    agent: agent.definition.name,
    principal: principal.id,
    actor: principal.apiKeyId === null ? principal.id : `key:${principal.apiKeyId}`,
    server: "public",
    protocol: call.protocol,
    message: send.message,
    messageId: agent.definition.deduplicate ? send.messageId : null,
    idempotencyKey: call.idempotencyKey,
  });
  if (!answered.ok) {
    const ended = answered.error.code === "task_not_waiting" && isTerminal(task.state);
    throw ended
      ? userError(
          "unsupported_operation",
          "The task is finished and takes no more messages. Send a new message without taskId, in the same context.",
        )
      : answered.error;
  }
  return { runId, taskId, contextId, afterSeq: answered.value.afterSeq };
};

/** Waits for the task as a blocking send does, no longer than the organization's limit; then gives it as it is. */
export const awaitAnswer = async (deps: SendDeps, call: Call, taken: Taken): Promise<TaskView> => {
  const { organization, signal, historyLength } = call;
  const wait = abortAfter(organization.settings.intake.blockingWaitSeconds * 1_000, signal);
  const query = {
    orgId: organization.id,
    taskId: taken.taskId,
    ...(historyLength !== undefined && { historyLength }),
  };
  const task = await awaitTask(deps, {
    query,
    runId: taken.runId,
    afterSeq: taken.afterSeq,
    ...(taken.view !== undefined && { accepted: taken.view }),
    signal: wait.signal,
  }).finally(wait.clear);
  if (task === undefined) throw taskNotFound();
  // The wait was broken off: nothing of the run's own may have been committed yet that would cover its intake.
  if (!isSettled(task.state)) await makeDurable(deps.db, organization.id);
  return task;
};

/** The permission that calling an agent takes; a refusal is audited. */
export const assertMayExecute = (
  { authenticator }: { readonly authenticator: Pick<Authenticator, "noteForbidden"> },
  { principal, agent, ip }: Pick<Call, "principal" | "agent" | "ip">,
): void => {
  const { name } = agent.definition;
  const [action, resource] = ["agent:execute", agentResource(name)];
  if (principal.can(action, resource)) return;
  const { orgId, apiKeyId } = principal;
  if (apiKeyId !== null) authenticator.noteForbidden({ orgId, keyId: apiKeyId, ip, action, resource });
  throw userError(
    "forbidden",
    `This key may not call the agent ${name}. It needs the permission agent:execute on /agents/${name}/.`,
  );
};
