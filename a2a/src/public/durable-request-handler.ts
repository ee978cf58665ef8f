import type { StreamResponse, Task } from "@a2a-js/sdk";
import type { A2ARequestHandler, ServerCallContext } from "@a2a-js/sdk/server";
import { toSdkTask, toStreamResponse, type SendParams } from "@shaman/a2a-wire";
import { toAppError, userError, type AppError } from "@shaman/kernel";
import { awaitTask, commandRun, findTask, followRun, isTerminal, type TaskView } from "@shaman/runs";
import type { Call } from "./call.ts";
import { awaitAnswer, takeMessage, taskNotFound, visibleTask, type SendDeps, type Taken } from "./send-message.ts";

export type CallOf = (context: ServerCallContext) => Call;

const CANCEL_WAIT_MS = 3_000;

const notOffered = (operation: string): AppError =>
  userError("unsupported_operation", `${operation} is not offered by this agent; its Agent Card says what is.`);

const noPush = (): AppError =>
  userError("push_notification_not_supported", "This agent does not send push notifications.");

/**
 * A2A's operations over recorded runs, behind whatever transport the SDK brings. Every task is looked up for its own
 * caller and agent only, so that what is not theirs is not found (A2A 1.0.1 §13.1).
 */
export const createDurableRequestHandler = (deps: SendDeps, callOf: CallOf): A2ARequestHandler => {
  /** Keeps what was thrown for our own encoder, which says more than the SDK's. */
  const noting = async <T>(context: ServerCallContext, work: (call: Call) => Promise<T>): Promise<T> => {
    const call = callOf(context);
    try {
      return await work(call);
    } catch (error) {
      call.failure = toAppError(error);
      throw error;
    }
  };
  /** With addresses for its stored content that are good from now on. */
  const shown = (call: Call, view: TaskView): Task => toSdkTask(deps.downloads.inTask(call.organization, view));
  const refuse = (error: () => AppError) => (_params: unknown, context: ServerCallContext) =>
    noting(context, () => Promise.reject(error()));

  return {
    getAgentCard: () => Promise.reject(notOffered("GetAgentCard")),
    getAuthenticatedExtendedAgentCard: refuse(() => notOffered("GetExtendedAgentCard")),
    sendMessage: (_params, context) =>
      noting(context, async (call) => {
        const send = sendOf(call);
        if (!send.returnImmediately) return shown(call, await sendAndWait(deps, call, send));
        const taken = await takeMessage(deps, call, { send, durable: "at once" });
        return shown(call, taken.view ?? (await viewOf(deps, call, taken)));
      }),
    sendMessageStream: (_params, context) => noteStream(callOf(context), streamTask(deps, callOf(context))),
    getTask: ({ id }, context) => noting(context, async (call) => shown(call, await visibleTask(deps, call, id))),
    cancelTask: ({ id }, context) => noting(context, async (call) => shown(call, await cancelTask(deps, call, id))),
    resubscribe: (_params, context) =>
      noteStream(
        callOf(context),
        // oxlint-disable-next-line require-yield -- an empty stream that only refuses
        (async function* () {
          throw notOffered("SubscribeToTask");
        })(),
      ),
    listTasks: refuse(() => notOffered("ListTasks")),
    createTaskPushNotificationConfig: refuse(noPush),
    getTaskPushNotificationConfig: refuse(noPush),
    listTaskPushNotificationConfigs: refuse(noPush),
    deleteTaskPushNotificationConfig: refuse(noPush),
  };
};

const sendAndWait = async (deps: SendDeps, call: Call, send: SendParams): Promise<TaskView> => {
  const { id } = call.organization;
  deps.calls.add(id);
  try {
    return await awaitAnswer(deps, call, await takeMessage(deps, call, { send, durable: "later" }));
  } finally {
    deps.calls.remove(id);
  }
};

async function* noteStream(
  call: Call,
  events: AsyncGenerator<StreamResponse, void, undefined>,
): AsyncGenerator<StreamResponse, void, undefined> {
  try {
    yield* events;
  } catch (error) {
    call.failure = toAppError(error);
    throw error;
  }
}

const sendOf = (call: Call) => {
  if (call.send === undefined) throw userError("invalid_params", "Invalid parameters: message is missing.");
  return call.send;
};

const viewOf = async (deps: SendDeps, call: Call, { taskId }: Taken): Promise<TaskView> => {
  const { organization, historyLength } = call;
  const task = await findTask(deps.db, {
    orgId: organization.id,
    taskId,
    ...(historyLength !== undefined && { historyLength }),
  });
  if (task === undefined) throw taskNotFound();
  return task;
};

const notCancelable = (state: string): AppError =>
  userError("task_not_cancelable", `The task is ${state} and cannot be canceled any more.`);

/** Leaves a cancel command and waits a moment for its effect; the answer is the task as it is then (D21). */
const cancelTask = async (deps: SendDeps, call: Call, taskId: string): Promise<TaskView> => {
  const task = await visibleTask(deps, call, taskId);
  if (isTerminal(task.state)) throw notCancelable(task.state);
  const { organization, principal, agent } = call;
  const target = {
    orgId: organization.id,
    runId: task.runId,
    taskId,
    agent: agent.definition.name,
    actor: principal.apiKeyId === null ? principal.id : `key:${principal.apiKeyId}`,
    server: "public" as const,
    protocol: call.protocol,
  };
  const commanded = await commandRun(deps, target, { kind: "cancel" });
  if (!commanded) throw notCancelable("finished");
  const signal = AbortSignal.any([call.signal, AbortSignal.timeout(CANCEL_WAIT_MS)]);
  const query = { orgId: organization.id, taskId };
  for (let seen = task; ;) {
    // A task that waits for its caller is settled too; only a newer event than the one we saw tells of the cancel.
    const after = await awaitTask(deps, { query, runId: task.runId, afterSeq: seen.lastSeq, signal });
    if (after === undefined) throw taskNotFound();
    if (isTerminal(after.state) && after.state !== "canceled") throw notCancelable(after.state);
    if (after.state === "canceled" || signal.aborted) return after;
    seen = after;
  }
};

/** The task, then its events as they are committed, until it is finished or waits for its caller (§3.1.2, D2). */
async function* streamTask(deps: SendDeps, call: Call): AsyncGenerator<StreamResponse, void, undefined> {
  const taken = await takeMessage(deps, call, { send: sendOf(call), durable: "at once" });
  const view = taken.view ?? (await viewOf(deps, call, taken));
  const { organization } = call;
  yield { payload: { $case: "task", value: toSdkTask(deps.downloads.inTask(organization, view)) } };
  if (endsStream(view.state)) return;
  const { taskId, contextId, runId } = taken;
  const run = { orgId: organization.id, runId, afterSeq: view.lastSeq, signal: call.signal };
  for await (const event of followRun(deps, run)) {
    const response = toStreamResponse(deps.downloads.inEvent(organization, event), {
      taskId,
      contextId,
      traced: call.traced,
    });
    if (response !== undefined) yield response;
    if (event.type === "task.status" && event.taskId === taskId && endsStream(event.payload.state)) return;
  }
}

const endsStream = (state: TaskView["state"]): boolean => isTerminal(state) || state === "input_required";
