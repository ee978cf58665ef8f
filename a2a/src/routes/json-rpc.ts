import { JsonRpcTransportHandler, ServerCallContext } from "@a2a-js/sdk/server";
import {
  encodeJsonRpcError,
  parseSendParams,
  parseTaskParams,
  rpcHttpStatusOf,
  TRACE_EXTENSION,
} from "@shaman/a2a-wire";
import type { AgentResolver } from "@shaman/agents";
import { err, ok, toAppError, userError, type AppError, type Result } from "@shaman/kernel";
import type { Logger } from "@shaman/telemetry";
import type { FastifyReply, FastifyRequest } from "fastify";
import { writeEventStream } from "../event-stream.ts";
import type { Call, Caller } from "../public/call.ts";
import { identifyCaller, type CallerDeps } from "../public/callers.ts";
import { createDurableRequestHandler } from "../public/durable-request-handler.ts";
import { readIdempotencyKey } from "../public/idempotency-key.ts";
import { parseEnvelope, parseJson, readRpcId, type RpcId, type RpcRequest } from "../public/json-rpc-request.ts";
import type { OpenStreams } from "../public/open-streams.ts";
import { assertMayExecute, type SendDeps } from "../public/send-message.ts";
import { checkVersion } from "../public/version.ts";

export type JsonRpcDeps = SendDeps &
  CallerDeps & { readonly agents: AgentResolver; readonly streams: OpenStreams; readonly log: Logger };

type Exchange = { readonly request: FastifyRequest; readonly reply: FastifyReply };

/** A2A's other methods: the request handler refuses each with its own error, whatever the parameters. */
const NOT_OFFERED: ReadonlySet<string> = new Set([
  "ListTasks",
  "SubscribeToTask",
  "CreateTaskPushNotificationConfig",
  "GetTaskPushNotificationConfig",
  "ListTaskPushNotificationConfigs",
  "DeleteTaskPushNotificationConfig",
  "GetExtendedAgentCard",
]);

/** A2A over JSON-RPC (A2A 1.0.1 §9): our checks first, then the SDK's transport on our durable handler. */
export const createJsonRpcRoute = (deps: JsonRpcDeps) => {
  const calls = new WeakMap<ServerCallContext, Call>();
  const callOf = (context: ServerCallContext): Call => {
    const call = calls.get(context);
    if (call === undefined) throw new Error("The SDK's transport handed on a context that is not ours");
    return call;
  };
  const transport = new JsonRpcTransportHandler(createDurableRequestHandler(deps, callOf));

  return async (exchange: Exchange, agentName: string): Promise<void> => {
    const { request, reply } = exchange;
    const text = typeof request.body === "string" ? request.body : "";
    const body = parseJson(text);
    const id = body.ok ? readRpcId(body.value) : null;
    const opened = await open(deps, exchange, agentName).catch((error: unknown) => err(toAppError(error)));
    if (!opened.ok) return sendError(deps, exchange, { id, error: opened.error });
    if (opened.value.traced) reply.header("a2a-extensions", TRACE_EXTENSION);
    const prepared = body.ok ? prepare(request, opened.value, body.value) : body;
    if (!prepared.ok) return sendError(deps, exchange, { id, error: prepared.error });

    const { call, rpc, params } = prepared.value;
    const context = new ServerCallContext({ requestedVersion: "1.0" });
    calls.set(context, call);
    const place = rpc.method === "SendStreamingMessage" ? openStream(deps, call) : ok(() => undefined);
    if (!place.ok) return sendError(deps, exchange, { id, error: place.error });
    try {
      const answer = await transport.handle({ jsonrpc: "2.0", id: rpc.id, method: rpc.method, params }, context);
      if (Symbol.asyncIterator in answer) return await sendStream(deps, exchange, { id: rpc.id, call, events: answer });
      if ("error" in answer) {
        const error = call.failure ?? toAppError(new Error("The transport refused the request"));
        return await sendError(deps, exchange, { id: rpc.id, error });
      }
      await reply.type("application/json").send(JSON.stringify(answer));
    } finally {
      place.value();
    }
  };
};

const openStream = (deps: JsonRpcDeps, { principal, organization }: Call): Result<() => void> =>
  deps.streams.open(principal.id, organization.settings.intake.openStreamsPerCaller);

/** Caller and agent, in this order; the caller's permission last. */
const open = async (
  deps: JsonRpcDeps,
  { request, reply }: Exchange,
  agentName: string,
): Promise<Result<OpenedCall>> => {
  const caller = await identifyCaller(deps, request, reply);
  if (!caller.ok) return caller;
  const agent = await deps.agents.resolveExposed({ orgId: caller.value.organization.id, name: agentName });
  if (!agent.ok) return agent;
  const opened = { ...caller.value, agent: agent.value, protocol: "jsonrpc" as const, traced: activates(request) };
  assertMayExecute(deps, opened);
  return ok(opened);
};

type OpenedCall = Caller & Pick<Call, "agent" | "protocol" | "traced">;

const activates = (request: FastifyRequest): boolean => {
  const header = request.headers["a2a-extensions"];
  return typeof header === "string" && header.split(",").some((uri) => uri.trim() === TRACE_EXTENSION);
};

type Prepared = {
  readonly rpc: RpcRequest;
  readonly call: Call;
  /** For the SDK, which would take what we do not and trip over what we leave aside: only what our handler reads. */
  readonly params: { readonly id?: string };
};

const prepare = (request: FastifyRequest, opened: OpenedCall, body: unknown): Result<Prepared> => {
  const parsed = parseEnvelope(body);
  if (!parsed.ok) return parsed;
  const rpc = parsed.value;
  const version = checkVersion(request);
  if (!version.ok) return version;
  switch (rpc.method) {
    case "SendMessage":
    case "SendStreamingMessage": {
      const { messageParts, partBytes } = opened.organization.settings.intake;
      const send = parseSendParams(rpc.params, { maxParts: messageParts, maxPartBytes: partBytes });
      if (!send.ok) return send;
      const key = readIdempotencyKey(request);
      if (!key.ok) return key;
      const { historyLength } = send.value;
      const call = { ...opened, send: send.value, ...optional({ historyLength, idempotencyKey: key.value }) };
      return ok({ rpc, call, params: {} });
    }
    case "GetTask":
    case "CancelTask": {
      const task = parseTaskParams(rpc.params);
      if (!task.ok) return task;
      const { id, historyLength } = task.value;
      return ok({ rpc, call: { ...opened, ...optional({ historyLength }) }, params: { id } });
    }
    default: {
      if (!NOT_OFFERED.has(rpc.method)) {
        return err(userError("method_not_found", `Method not found: ${rpc.method.slice(0, 100)}.`));
      }
      return ok({ rpc, call: opened, params: {} });
    }
  }
};

/** Without what is undefined. */
const optional = (fields: {
  readonly historyLength?: number | undefined;
  readonly idempotencyKey?: string | undefined;
}) => ({
  ...(fields.historyLength !== undefined && { historyLength: fields.historyLength }),
  ...(fields.idempotencyKey !== undefined && { idempotencyKey: fields.idempotencyKey }),
});

type RpcFailure = { readonly id: RpcId | null; readonly error: AppError };

const sendError = async (deps: JsonRpcDeps, { request, reply }: Exchange, { id, error }: RpcFailure): Promise<void> => {
  if (error.kind !== "user") deps.log.error("request_failed", error, { requestId: request.id });
  const status = rpcHttpStatusOf(error);
  if (status === 401) reply.header("www-authenticate", 'Bearer realm="a2a"');
  if (error.retryAfterMs !== undefined) reply.header("retry-after", Math.ceil(error.retryAfterMs / 1_000));
  const body = { jsonrpc: "2.0", id, error: encodeJsonRpcError(error, request.id) };
  await reply.code(status).type("application/json").send(JSON.stringify(body));
};

type RpcStream = {
  readonly id: RpcId;
  readonly call: Call;
  readonly events: AsyncGenerator<unknown, void, undefined>;
};

/** An error before the first event is an ordinary answer; a later one is the stream's last event (D9). */
const sendStream = async (deps: JsonRpcDeps, exchange: Exchange, { id, call, events }: RpcStream): Promise<void> => {
  const first = await events.next().catch(() => undefined);
  if (first === undefined) {
    return sendError(deps, exchange, {
      id,
      error: call.failure ?? toAppError(new Error("The stream could not be opened")),
    });
  }
  const { request, reply } = exchange;
  const lines = async function* (): AsyncGenerator<string, void, undefined> {
    try {
      for (let event = first; event.done !== true; event = await events.next()) yield JSON.stringify(event.value);
    } catch (thrown) {
      const error = call.failure ?? toAppError(thrown);
      deps.log.error("stream_failed", error, { requestId: request.id });
      yield JSON.stringify({ jsonrpc: "2.0", id, error: encodeJsonRpcError(error, request.id) });
    } finally {
      await events.return();
    }
  };
  reply.hijack();
  const headers = { "x-request-id": request.id, ...(call.traced && { "a2a-extensions": TRACE_EXTENSION }) };
  await writeEventStream(reply.raw, lines(), headers);
};
