import { randomUUID } from "node:crypto";
import type { ExternalTarget, OpenedExternalAgent, SupportedInterface } from "@shaman/external";
import { AppError, err, ok, type Result } from "@shaman/kernel";
import type { ExternalCallDeps } from "./call-external-agent.ts";
import { answerInvalid } from "./external-error.ts";
import { byAnyWay, createRoute } from "./route.ts";
import { sendOnce } from "./wire-request.ts";

export type ExternalProbe = {
  readonly agent: OpenedExternalAgent;
  /** The first of its interfaces that is there. */
  readonly interface: SupportedInterface;
  readonly latencyMs: number;
};

const PROBE_MS = 20_000;
const LIMITS = {
  maxAnswerBytes: 1024 * 1024,
  maxEventBytes: 1024 * 1024,
  headersMs: PROBE_MS,
  idleMs: PROBE_MS,
  requestMs: PROBE_MS,
};

/**
 * Tries an outside agent without giving it anything to do: fetches its card anew and asks for a task that does not exist.
 * An agent that says so can be reached, speaks A2A and takes the credential. Errors: those of a call, and of the registry.
 */
export const probeExternalAgent = async (
  deps: ExternalCallDeps,
  input: { readonly orgId: string; readonly target: ExternalTarget; readonly signal: AbortSignal },
): Promise<Result<ExternalProbe>> => {
  const { orgId, target, signal } = input;
  const opened = await deps.directory.open({ orgId, target, refresh: true, signal });
  if (!opened.ok) return opened;
  const agent = opened.value;
  const route = createRoute(agent, { outbound: deps.outbound, limits: LIMITS, extraHeaders: {} });
  const startMs = performance.now();
  const ask = byAnyWay(route, ({ wire }) =>
    sendOnce(wire, wire.dialect.getTask(randomUUID(), 0), { signal, timeoutMs: PROBE_MS }),
  );
  const failure = await ask.then(
    () => answerInvalid("it found a task that does not exist"),
    (thrown: unknown) => thrown,
  );
  const latencyMs = performance.now() - startMs;
  if (!(failure instanceof AppError)) throw failure;
  const isThere = failure.code === "external_task_not_found";
  const figures = { orgId, externalAgentId: agent.id ?? "", latencyMs };
  if (agent.id !== undefined) deps.health?.record({ ...figures, ...(!isThere && { error: failure.code }) });
  return isThere ? ok({ agent, interface: route.way().interface, latencyMs: Math.round(latencyMs) }) : err(failure);
};
