import { createAuthenticator } from "@shaman/access";
import { createAgentResolver } from "@shaman/agents";
import { encodeHttpError, encodeJsonRpcError, encodingOf, rpcHttpStatusOf } from "@shaman/a2a-wire";
import { createTally, newId, systemClock, toAppError, userError, type AppError } from "@shaman/kernel";
import { createPostgresJobQueue, createRedisJobQueue, openRedis } from "@shaman/queue";
import { createRunWatcher, watchOffers } from "@shaman/runs";
import { newDownloadKeys, openObjectStore } from "@shaman/storage";
import { healthRoutes, type Logger } from "@shaman/telemetry";
import { createOrganizationDirectory } from "@shaman/tenancy";
import { fastify, type FastifyError, type FastifyReply, type FastifyRequest } from "fastify";
import { closeGracefully } from "./close-gracefully.ts";
import type { PublicConfig } from "./config.ts";
import { connect } from "./connect.ts";
import { forgetChanges } from "./forget-changes.ts";
import type { RunningServer } from "./running-server.ts";
import { createDownloadUrls } from "./public/download-urls.ts";
import { createOpenStreams } from "./public/open-streams.ts";
import { createQueueDepth } from "./public/queue-depth.ts";
import { createRateLimits } from "./public/rate-limits.ts";
import { createBodyReader } from "./public/request-body.ts";
import { sendAgentCard, sendCatalogue } from "./routes/agent-cards.ts";
import { sendArtifact } from "./routes/artifacts.ts";
import { createJsonRpcRoute } from "./routes/json-rpc.ts";
import { executeShortForm, sendTask } from "./routes/short-form.ts";

const REQUEST_TIMEOUT_MS = 30_000;
const REFUSALS_MS = 5_000;
const LAST_USED_MS = 60_000;
const AGENTS = "/a2a/v1/agents/";
const CARD = "/.well-known/agent-card.json";
const EXECUTE = "/execute";

/** The server that partners call: authenticates, records, enqueues, streams back. It runs no model and no tool. */
export const buildPublicServer = async (config: PublicConfig): Promise<RunningServer> => {
  const calls = createTally();
  const { db, fanOut, changes, log, metrics, checks, name, onError } = await connect("public", config, calls.of);
  const { url } = config.database;
  const queueOptions = { name, onError, takes: false };
  const queue =
    config.redis === null
      ? createPostgresJobQueue({ ...queueOptions, url, poolSize: config.database.poolSize, keepFull: true })
      : createRedisJobQueue({ ...queueOptions, url: config.redis.url });
  const redis =
    config.redis === null
      ? undefined
      : openRedis({ url: config.redis.url, name: `${name}-limits`, patient: false, onError });
  const remembering = { db, clock: systemClock, toldUntilMs: changes.toldUntilMs };
  const authenticator = createAuthenticator({ ...remembering, origin: { server: "public" } });
  const organizations = createOrganizationDirectory({ ...remembering, baseDomain: config.tenancy.baseDomain });
  const agents = createAgentResolver(remembering);
  await forgetChanges(
    { changes, fanOut, onError },
    {
      one: ({ what, orgId, id }) => {
        switch (what) {
          case "key":
            return authenticator.invalidateKey({ orgId, keyId: id });
          case "agents":
            return agents.invalidate(orgId);
          case "organization":
            return organizations.invalidate(orgId);
        }
      },
      all: () => {
        authenticator.invalidateAll();
        agents.invalidate();
        organizations.invalidate();
      },
    },
  );
  const watcher = await createRunWatcher({ db, fanOut, onError });
  const offers = await watchOffers({ fanOut });
  const streams = createOpenStreams();
  metrics.gauge("shaman_open_streams", "Open event streams of callers", streams.count);
  const store = openObjectStore(config.storage);
  if (config.downloads === null) {
    log.warn("download_urls_of_this_process_only", { help: "set DOWNLOAD_URL_KEYS where several public servers run" });
  }
  const downloadKeys = config.downloads ?? newDownloadKeys();
  const deps = {
    db,
    store,
    downloadKeys,
    downloads: createDownloadUrls({ keys: downloadKeys, clock: systemClock, tenancy: config.tenancy }),
    clock: systemClock,
    queue,
    fanOut,
    watcher,
    offers,
    calls,
    agents,
    authenticator,
    organizations,
    streams,
    log,
    tenancy: config.tenancy,
    rateLimits: createRateLimits(redis),
    isQueueFull: createQueueDepth({ db, clock: systemClock }),
    onEnqueueFailed: (error: Error, runId: string) => log.error("enqueue_failed", error, { runId }),
  };

  const app = fastify({
    logger: false,
    requestTimeout: REQUEST_TIMEOUT_MS,
    trustProxy: config.proxy.trusted.length > 0 ? config.proxy.trusted : false,
    genReqId: () => newId("req"),
    forceCloseConnections: false,
    routerOptions: { maxParamLength: 1_000, ignoreTrailingSlash: true },
    frameworkErrors: (error, request, reply) => void sendError({ log }, { request, reply }, error),
  });
  app.removeAllContentTypeParsers();
  const readBody = createBodyReader({ organizations });
  app.addContentTypeParser(["application/json", "application/a2a+json"], readBody);
  app.addHook("onRequest", async (request, reply) => void reply.header("x-request-id", request.id));
  app.setErrorHandler((error, request, reply) => sendError({ log }, { request, reply }, error));
  app.setNotFoundHandler((request, reply) =>
    sendError(
      { log },
      { request, reply },
      userError("not_found", "There is nothing at this address. An agent's card says how it is called."),
    ),
  );
  let ready = true;
  const storage = { name: "storage", check: store.check, optional: true } as const;
  await app.register(healthRoutes({ checks: [...checks, storage], isReady: () => ready }));

  const sendRpc = createJsonRpcRoute(deps);
  app.get(CARD, (request, reply) => sendAgentCard(deps, { request, reply }));
  app.get("/a2a/v1/agents", (request, reply) => sendCatalogue(deps, { request, reply }));
  app.get(`${AGENTS}*`, (request, reply) => {
    const path = pathBelow(request, AGENTS);
    if (!path.endsWith(CARD)) return reply.callNotFound();
    return sendAgentCard(deps, { request, reply }, path.slice(0, -CARD.length));
  });
  app.post(`${AGENTS}*`, (request, reply) => {
    const path = pathBelow(request, AGENTS);
    if (path.endsWith(EXECUTE)) return executeShortForm(deps, { request, reply }, path.slice(0, -EXECUTE.length));
    return sendRpc({ request, reply }, path);
  });
  app.get<{ Params: { id: string } }>("/a2a/v1/tasks/:id", (request, reply) =>
    sendTask(deps, { request, reply }, request.params.id),
  );

  app.get<{ Params: { id: string } }>("/a2a/v1/artifacts/:id", (request, reply) =>
    sendArtifact(deps, { request, reply }, request.params.id),
  );

  const flushFailed = (error: unknown): void => log.error("flush_failed", error);
  const timers = [
    setInterval(() => void authenticator.flushRefusals().catch(flushFailed), REFUSALS_MS),
    setInterval(() => void authenticator.flush().catch(flushFailed), LAST_USED_MS),
  ];

  return {
    log,
    listen: async (port) => {
      await app.listen({ host: config.server.host, port });
      log.info("ready", { port });
    },
    close: async () => {
      ready = false;
      timers.forEach(clearInterval);
      await closeGracefully(app, config.server.shutdownGraceMs);
      watcher.close();
      changes.close();
      await authenticator.flush().catch(onError);
      redis?.disconnect();
      await Promise.allSettled([queue.close(), fanOut.close(), store.close()]);
      await db.close();
    },
  };
};

/** The rest of the path, decoded, a slash at its end not counted. */
const pathBelow = (request: FastifyRequest, prefix: string): string => {
  const path = (request.raw.url ?? "").split("?")[0] ?? "";
  const rest = path.slice(prefix.length).replace(/\/$/, "");
  try {
    return decodeURIComponent(rest);
  } catch {
    return rest;
  }
};

const sendError = async (
  deps: { readonly log: Logger },
  { request, reply }: { readonly request: FastifyRequest; readonly reply: FastifyReply },
  thrown: unknown,
): Promise<void> => {
  const error = asAppError(thrown);
  if (error.kind !== "user") deps.log.error("request_failed", error, { requestId: request.id });
  const isRpc = request.method === "POST" && !pathBelow(request, "").endsWith(EXECUTE);
  const status = isRpc ? rpcHttpStatusOf(error) : encodingOf(error).httpStatus;
  if (status === 401) reply.header("www-authenticate", 'Bearer realm="a2a"');
  // What is left of such a body is not read, so nothing can follow it.
  if (status === 413) reply.header("connection", "close");
  if (error.retryAfterMs !== undefined) reply.header("retry-after", Math.ceil(error.retryAfterMs / 1_000));
  const body = isRpc
    ? { jsonrpc: "2.0", id: null, error: encodeJsonRpcError(error, request.id) }
    : encodeHttpError(error, request.id);
  await reply.code(status).type("application/json").send(JSON.stringify(body));
};

/** Fastify's own refusals, in our words. */
const asAppError = (thrown: unknown): AppError => {
  const { code, statusCode = 500, message = "" }: Partial<FastifyError> = thrown instanceof Error ? thrown : {};
  if (code === "FST_ERR_CTP_INVALID_MEDIA_TYPE") {
    return userError("media_type_not_supported", "Send the body as Content-Type: application/json.");
  }
  const refused = code?.startsWith("FST_") === true && statusCode >= 400 && statusCode < 500;
  return refused ? userError("invalid_request", `The request cannot be read: ${message}`) : toAppError(thrown);
};
