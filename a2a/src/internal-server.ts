import {
  createPostgresJtiStore,
  createRedisJtiStore,
  createTokenMinter,
  createTokenVerifier,
  type TokenClaims,
  type TokenVerifier,
} from "@shaman/access";
import { createAgentResolver } from "@shaman/agents";
import {
  createInternalCaller,
  encodeJsonRpcError,
  encodingOf,
  NONCE_HEADER,
  openAgentConnections,
} from "@shaman/a2a-wire";
import {
  err,
  GONE,
  newId,
  ok,
  randomText,
  systemClock,
  toAppError,
  userError,
  type AppError,
  type JsonObject,
  type Result,
} from "@shaman/kernel";
import { createExternalDirectory, createHealthRecorder } from "@shaman/external";
import { createOutbound } from "@shaman/outbound";
import { openRedis } from "@shaman/queue";
import { createRunWatcher, whenOnRecord } from "@shaman/runs";
import { healthRoutes, type Logger } from "@shaman/telemetry";
import { createMcpTools, type Catalogue } from "@shaman/tools";
import { createOrganizationDirectory } from "@shaman/tenancy";
import { fastify, type FastifyReply, type FastifyRequest } from "fastify";
import { z } from "zod";
import { closeGracefully } from "./close-gracefully.ts";
import type { InternalConfig } from "./config.ts";
import { connect } from "./connect.ts";
import { writeEventStream } from "./event-stream.ts";
import { forgetChanges } from "./forget-changes.ts";
import { executeTask, type ExecuteTaskDeps } from "./internal/execute-task.ts";
import { createOpenTools } from "./internal/open-tools.ts";
import { toStreamJson } from "./internal/stream-events.ts";
import { openStdioServers } from "./internal/open-stdio-servers.ts";
import type { RunningServer } from "./running-server.ts";

const BODY_LIMIT_BYTES = 16 * 1024 * 1024;
const REQUEST_TIMEOUT_MS = 30_000;
const CHILD_CONNECTIONS = 1_024;

type TaskIds = { readonly taskId: string; readonly contextId: string };

/** Only that is looked at: the message is JSON already, and its sender has checked the rest. */
const namesItsTask = (value: unknown): boolean =>
  typeof value === "object" &&
  value !== null &&
  "taskId" in value &&
  "contextId" in value &&
  typeof value.taskId === "string" &&
  typeof value.contextId === "string";

const sendRequest = z.object({
  jsonrpc: z.literal("2.0"),
  id: z.union([z.string(), z.number()]),
  method: z.literal("SendStreamingMessage"),
  params: z.object({ message: z.custom<JsonObject & TaskIds>(namesItsTask, "must be a message that names its task") }),
});

type HandlerDeps = ExecuteTaskDeps & {
  readonly verifier: TokenVerifier;
  /** This server's name in tokens, which every answer tells. */
  readonly nonce: string;
  readonly log: Logger;
  readonly stopping: AbortSignal;
};

/**
 * The server that runs agents. It listens on loopback or a private network, and takes nothing but internal tokens.
 * `catalogue` has the operator's stdio MCP servers.
 */
export const buildInternalServer = async (config: InternalConfig, catalogue: Catalogue): Promise<RunningServer> => {
  const { db, fanOut, changes, log, metrics, checks, name, onError } = await connect("internal", config);
  const redis =
    config.redis === null
      ? undefined
      : openRedis({ url: config.redis.url, name: `${name}-jti`, patient: false, onError });
  const useJti =
    redis === undefined ? createPostgresJtiStore({ db }) : createRedisJtiStore({ redis, clock: systemClock });
  const nonce = randomText(29);
  const verifier = createTokenVerifier({ keys: config.jwt.keys, clock: systemClock, useJti, nonce });
  const outbound = createOutbound(config.outbound);
  const stdioServers = openStdioServers(config.stdio, catalogue, log);
  const mcp = createMcpTools({
    db,
    secretKeys: config.secrets,
    outbound,
    limits: config.mcp,
    catalogue: stdioServers.open,
  });
  metrics.gauge("shaman_mcp_sessions", "Open sessions with MCP servers", mcp.openSessions);
  const minter = createTokenMinter({ keys: config.jwt.keys, clock: systemClock });
  // A waiting parent holds a connection, so the number of these bounds how many calls are under way at once.
  const connections = openAgentConnections({ connections: CHILD_CONNECTIONS });
  const watcher = await createRunWatcher({ db, fanOut, channel: "goingOn", onError });
  const organizations = createOrganizationDirectory({
    db,
    clock: systemClock,
    toldUntilMs: changes.toldUntilMs,
    baseDomain: "internal",
  });
  // Agents are run at the commit that their run pins, which never changes.
  await forgetChanges(
    { changes, fanOut, onError },
    {
      one: ({ what, orgId }) => {
        if (what === "organization") organizations.invalidate(orgId);
      },
      all: () => organizations.invalidate(),
    },
  );
  const health = createHealthRecorder({ db, clock: systemClock, onError });
  const directory = createExternalDirectory({ db, clock: systemClock, secretKeys: config.secrets, outbound });
  const stopping = new AbortController();
  const deps: HandlerDeps = {
    db,
    watcher,
    verifier,
    log,
    // Where internal servers are found: this one, or a balancer before all of them.
    callInternal: createInternalCaller({ minter, connections, origin: config.internal.url, clock: systemClock }),
    nonce,
    openTools: createOpenTools({ db, mcp }),
    external: { directory, outbound, health, clock: systemClock },
    stopping: stopping.signal,
    agents: createAgentResolver({ db, clock: systemClock }),
    models: {
      db,
      secretKeys: config.secrets,
      outbound,
      onCacheError: (error) => log.error("model_cache_failed", error),
    },
    organizations,
  };

  const app = fastify({
    logger: false,
    bodyLimit: BODY_LIMIT_BYTES,
    requestTimeout: REQUEST_TIMEOUT_MS,
    genReqId: () => newId("req"),
    forceCloseConnections: false,
  });
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("application/json", { parseAs: "string" }, (_request, body, done) => done(null, body));
  let ready = true;
  await app.register(healthRoutes({ checks, isReady: () => ready, metrics }));
  app.post("/a2a/v1/agents/*", (request, reply) => handle(deps, request, reply));

  return {
    log,
    listen: async (port) => {
      await app.listen({ host: config.server.host, port });
      log.info("ready", { port });
    },
    close: async () => {
      ready = false;
      // The worker takes an aborted stream for what it is and sends the task again elsewhere.
      stopping.abort();
      watcher.close();
      changes.close();
      await closeGracefully(app, config.server.shutdownGraceMs);
      redis?.disconnect();
      await mcp.close();
      await health.close();
      await Promise.allSettled([fanOut.close(), outbound.close(), connections.destroy(), stdioServers.close()]);
      await db.close();
    },
  };
};

const handle = async (deps: HandlerDeps, request: FastifyRequest, reply: FastifyReply): Promise<void> => {
  const authorized = await authorize(deps, request).catch((error: unknown) => err(toAppError(error)));
  if (!authorized.ok) return refuse(deps, { request, reply }, authorized.error);
  const { claims, body } = authorized.value;
  const parsed = sendRequest.safeParse(JSON.parse(body));
  if (!parsed.success) {
    return refuse(deps, { request, reply }, userError("invalid_request", z.prettifyError(parsed.error)));
  }
  const { id, params } = parsed.data;
  const { taskId, contextId } = params.message;
  if (taskId !== claims.context.taskId) {
    return refuse(deps, { request, reply }, userError("internal_token_invalid", "The token is for another task."));
  }
  const ids = { taskId, contextId };
  reply.hijack();
  const closed = new AbortController();
  const stop = (): void => closed.abort(GONE);
  reply.raw.once("close", () => {
    deps.stopping.removeEventListener("abort", stop);
    if (!reply.raw.writableFinished) stop();
  });
  deps.stopping.addEventListener("abort", stop);
  const { signal } = closed;
  const { context } = claims;
  const onRecord =
    context.announced === true
      ? whenOnRecord(deps.watcher, { orgId: context.tenantId, runId: context.runId }, signal)
      : Promise.resolve();
  const events = executeTask(deps, { context, contextId, message: params.message, onRecord, signal });
  const envelopes = async function* (): AsyncGenerator<string, void, undefined> {
    const working = { id: taskId, contextId, status: { state: "TASK_STATE_WORKING" } };
    yield JSON.stringify({ jsonrpc: "2.0", id, result: { task: working } });
    for await (const event of await events) {
      for (const result of toStreamJson(ids, event)) yield JSON.stringify({ jsonrpc: "2.0", id, result });
    }
  };
  try {
    // What cannot be made ready breaks off at once; what can waits until it is on record.
    await Promise.race([onRecord, events]);
    await writeEventStream(reply.raw, envelopes(), { [NONCE_HEADER]: deps.nonce });
  } catch (error) {
    if (!reply.raw.headersSent) reply.raw.destroy();
    // Whoever closed the stream stopped the execution on purpose; anything else breaks it off, and the worker sees that.
    if (!signal.aborted) deps.log.error("task_broken_off", error, { taskId, runId: context.runId });
  }
};

const authorize = async (
  deps: HandlerDeps,
  request: FastifyRequest,
): Promise<Result<{ readonly claims: TokenClaims; readonly body: string }>> => {
  const token = /^Bearer (\S+)$/i.exec(request.headers.authorization ?? "")?.[1];
  if (token === undefined) return err(userError("internal_token_invalid", "An internal token is needed."));
  const body = typeof request.body === "string" ? request.body : "";
  const path = request.raw.url?.split("?")[0] ?? "";
  const claims = await deps.verifier.verify(token, { method: request.method, path, body });
  return claims.ok ? ok({ claims: claims.value, body }) : claims;
};

const refuse = async (
  deps: HandlerDeps,
  { request, reply }: { readonly request: FastifyRequest; readonly reply: FastifyReply },
  error: AppError,
): Promise<void> => {
  if (error.kind !== "user") deps.log.error("request_failed", error, { requestId: request.id });
  const body = { jsonrpc: "2.0", id: null, error: encodeJsonRpcError(error, request.id) };
  await reply.code(encodingOf(error).httpStatus).header(NONCE_HEADER, deps.nonce).send(body);
};
