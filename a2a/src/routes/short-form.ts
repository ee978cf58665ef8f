import { Task } from "@a2a-js/sdk";
import {
  invalidParams,
  isNestedDeeper,
  isObject,
  MAX_DEPTH,
  toSdkTask,
  type FieldViolation,
  type SendParams,
} from "@shaman/a2a-wire";
import { agentResource } from "@shaman/access";
import type { AgentResolver } from "@shaman/agents";
import { err, isId, newId, ok, unwrap, type Result } from "@shaman/kernel";
import { findTask } from "@shaman/runs";
import type { TenancyConfig } from "@shaman/tenancy";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { Call } from "../public/call.ts";
import { identifyCaller, type CallerDeps } from "../public/callers.ts";
import { readIdempotencyKey } from "../public/idempotency-key.ts";
import { parseJson } from "../public/json-rpc-request.ts";
import { assertMayExecute, takeMessage, taskNotFound, type SendDeps } from "../public/send-message.ts";

export type ShortFormDeps = SendDeps & CallerDeps & { readonly agents: AgentResolver; readonly tenancy: TenancyConfig };

type Exchange = { readonly request: FastifyRequest; readonly reply: FastifyReply };

/**
 * `POST …/{name}/execute` with `{"prompt", "context"?}`: starts a task and answers 202 with where to look. With an
 * `Idempotency-Key` a repeat gives the same task.
 */
export const executeShortForm = async (
  deps: ShortFormDeps,
  { request, reply }: Exchange,
  agentName: string,
): Promise<void> => {
  const caller = unwrap(await identifyCaller(deps, request, reply));
  const { organization } = caller;
  const agent = unwrap(await deps.agents.resolveExposed({ orgId: organization.id, name: agentName }));
  const idempotencyKey = unwrap(readIdempotencyKey(request));
  const call: Call = {
    ...caller,
    agent,
    protocol: "http+json",
    traced: false,
    ...(idempotencyKey !== undefined && { idempotencyKey }),
  };
  assertMayExecute(deps, call);
  const body = unwrap(parseJson(typeof request.body === "string" ? request.body : ""));
  const send = unwrap(toSendParams(call, body));
  const { taskId, contextId, view } = await takeMessage(deps, call, { send, durable: "at once" });
  const status =
    view?.state ??
    (await findTask(deps.db, { orgId: organization.id, taskId, historyLength: 0 }))?.state ??
    "submitted";
  const statusUrl = `${deps.tenancy.publicUrlOf(organization.slug)}/a2a/v1/tasks/${taskId}`;
  await reply
    .code(202)
    .header("location", statusUrl)
    .send({ taskId, contextId, status: `TASK_STATE_${status.toUpperCase()}`, statusUrl });
};

const toSendParams = (call: Call, body: unknown): Result<SendParams> => {
  const violations: FieldViolation[] = [];
  const fields = isObject(body) ? body : {};
  const { prompt, context } = fields;
  const { partBytes } = call.organization.settings.intake;
  if (typeof prompt !== "string" || prompt === "") violations.push({ field: "prompt", description: "must be a text" });
  else if (Buffer.byteLength(prompt) > partBytes) {
    violations.push({ field: "prompt", description: `must not be larger than ${partBytes} bytes` });
  }
  const isContext = isObject(context) && !isNestedDeeper(context, MAX_DEPTH);
  if (context !== undefined && context !== null && !isContext) {
    violations.push({ field: "context", description: `must be an object, nested no more than ${MAX_DEPTH} deep` });
  }
  const contextText = isContext ? JSON.stringify(context) : "";
  if (Buffer.byteLength(contextText) > partBytes) {
    violations.push({ field: "context", description: `must not be larger than ${partBytes} bytes` });
  }
  if (violations.length > 0 || typeof prompt !== "string") return err(invalidParams(violations));
  const messageId = newId("msg");
  const parts = [{ text: prompt }, ...(isContext ? [{ data: JSON.parse(contextText) }] : [])];
  return ok({
    message: { messageId, role: "ROLE_USER", parts },
    messageId,
    contextId: undefined,
    taskId: undefined,
    historyLength: undefined,
    returnImmediately: true,
    asksForPush: false,
    tenant: undefined,
  });
};

/** `GET /a2a/v1/tasks/{id}`: the task as A2A has it, if it is this caller's. */
export const sendTask = async (deps: ShortFormDeps, { request, reply }: Exchange, taskId: string): Promise<void> => {
  const caller = unwrap(await identifyCaller(deps, request, reply));
  const { organization, principal } = caller;
  if (!isId("task", taskId)) throw taskNotFound();
  const task = await findTask(deps.db, { orgId: organization.id, taskId, principal: principal.id });
  if (task === undefined || !principal.can("agent:execute", agentResource(task.agent))) throw taskNotFound();
  await reply
    .type("application/json")
    .send(JSON.stringify(Task.toJSON(toSdkTask(deps.downloads.inTask(organization, task)))));
};
