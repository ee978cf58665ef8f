import { AppError } from "@shaman/kernel";
import type { FastifyInstance } from "fastify";
import type { Metrics } from "./metrics.ts";

export type HealthCheck = {
  readonly name: string;
  readonly check: () => Promise<void>;
  /** Most works without it: it shows in `/health`, and does not keep traffic away. */
  readonly optional?: true;
};

const CHECK_TIMEOUT_MS = 2_000;
const OPTIONAL_KEPT_MS = 2_000;

type Outcome = { readonly name: string; readonly ok: boolean; readonly error?: string };

const runCheck = async ({ name, check }: HealthCheck): Promise<Outcome> => {
  const timeout = Promise.withResolvers<never>();
  const timer = setTimeout(() => timeout.reject(late()), CHECK_TIMEOUT_MS);
  try {
    await Promise.race([check(), timeout.promise]);
    return { name, ok: true };
  } catch (error) {
    return { name, ok: false, error: messageOf(error) };
  } finally {
    clearTimeout(timer);
  }
};

/** Looks at what can be done without only now and then: it may be a request to a service that charges for it. */
const keepOptional = () => {
  const kept = new Map<string, { readonly untilMs: number; readonly outcome: Promise<Outcome> }>();
  return (check: HealthCheck): Promise<Outcome> => {
    if (check.optional !== true) return runCheck(check);
    const known = kept.get(check.name);
    if (known !== undefined && known.untilMs > Date.now()) return known.outcome;
    const outcome = runCheck(check);
    kept.set(check.name, { untilMs: Date.now() + OPTIONAL_KEPT_MS, outcome });
    return outcome;
  };
};

const late = (): AppError =>
  new AppError({
    code: "health_check_late",
    kind: "operational",
    message: "A health check took too long",
    publicMessage: "no answer within 2 s",
  });

/** Callers from outside may read it too, and what drivers say names hosts, accounts and users: so of that only the code. */
const messageOf = (error: unknown): string => {
  if (error instanceof AppError && error.publicMessage !== undefined) return error.publicMessage;
  const code = error instanceof Error && "code" in error ? ` (${String(error.code)})` : "";
  return `not available${code}`;
};

/**
 * `/health`: alive, with a table of checks. `/ready`: 200 while this process should get traffic, else 503. `/metrics`:
 * Prometheus. Mount it where callers from outside do not reach, or on the public port without `metrics`.
 */
export const healthRoutes =
  (deps: { readonly checks: readonly HealthCheck[]; readonly isReady: () => boolean; readonly metrics?: Metrics }) =>
  async (app: FastifyInstance): Promise<void> => {
    const look = keepOptional();
    app.get("/health", async () => {
      const checks = await Promise.all(deps.checks.map(look));
      return { status: checks.every((check) => check.ok) ? "ok" : "degraded", checks };
    });
    app.get("/ready", async (_request, reply) => {
      const needed = deps.checks.filter(({ optional }) => optional !== true);
      const checks = deps.isReady() ? await Promise.all(needed.map(runCheck)) : [];
      const ready = deps.isReady() && checks.every((check) => check.ok);
      return reply.code(ready ? 200 : 503).send({ ready, checks });
    });
    const { metrics } = deps;
    if (metrics !== undefined) {
      app.get("/metrics", async (_request, reply) =>
        reply.type("text/plain; version=0.0.4").send(await metrics.render()),
      );
    }
  };
