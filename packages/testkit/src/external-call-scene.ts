import { randomBytes } from "node:crypto";
import {
  callExternalAgent,
  type ExternalCall,
  type ExternalCallDeps,
  type ExternalCallLimits,
  type ExternalEvent,
  type ExternalOutcome,
} from "@shaman/a2a-wire";
import { createOperatorPrincipal, type Principal } from "@shaman/access";
import {
  addExternalAgent,
  createExternalDirectory,
  createHealthRecorder,
  type AddExternalAgentInput,
  type ExternalTarget,
  type HealthRecorder,
} from "@shaman/external";
import { systemClock, unwrap, type JsonObject } from "@shaman/kernel";
import { createOutbound, type Outbound } from "@shaman/outbound";
import { parseSecretKeys } from "@shaman/secrets";
import { testDatabase, type TestDatabase } from "./test-database.ts";

type CallInput = Partial<ExternalCall> & {
  readonly limits?: Partial<ExternalCallLimits>;
  /** Another way out than the one that leads to loopback. */
  readonly way?: Outbound;
};

/** An organization that has registered one outside agent. */
type GivenExternalAgent = {
  readonly orgId: string;
  readonly operator: Principal;
  readonly target: ExternalTarget;
  readonly deps: ExternalCallDeps;
  readonly health: HealthRecorder;
  /** Calls it, polling fast, and soon tired of one that is not there. */
  readonly call: (text: string, more?: CallInput) => AsyncGenerator<ExternalEvent, void, undefined>;
};

export type ExternalCallScene = {
  readonly database: TestDatabase;
  readonly outbound: Outbound;
  readonly given: (url: string, more?: Partial<AddExternalAgentInput>) => Promise<GivenExternalAgent>;
  readonly close: () => Promise<void>;
};

const DEADLINE_MS = 60_000;

/** What calling outside agents takes, without servers of ours. */
export const startExternalCallScene = async (): Promise<ExternalCallScene> => {
  const keys = parseSecretKeys(`test:${randomBytes(32).toString("base64url")}`);
  if (!keys.ok) throw new Error(keys.error);
  const secretKeys = keys.value;
  const database = await testDatabase();
  const outbound = createOutbound({ allowLoopback: true, mapLocalhost: true, allowHttp: true });

  const given: ExternalCallScene["given"] = async (url, more = {}) => {
    const { orgId } = await database.givenOrg();
    const web = { db: database.as("web"), clock: systemClock, origin: { server: "test" }, secretKeys, outbound };
    const operator = createOperatorPrincipal({ orgId, name: "test" });
    const { id, name } = unwrap(await addExternalAgent(web, operator, { name: "Partner", url, ...more }));
    const target = { kind: "registered", externalAgentId: id, name } as const;
    const internal = { db: database.as("internal"), clock: systemClock };
    const health = createHealthRecorder({ ...internal, onError: () => undefined });
    const depsBy = (way: Outbound, limits: Partial<ExternalCallLimits>): ExternalCallDeps => ({
      directory: createExternalDirectory({ ...internal, secretKeys, outbound: way }),
      outbound: way,
      clock: systemClock,
      health,
      limits: { pollMs: 5, maxPollMs: 20, reconnectMs: 100, ...limits },
    });
    const call: GivenExternalAgent["call"] = (text, { limits = {}, way = outbound, ...rest } = {}) =>
      callExternalAgent(depsBy(way, limits), {
        orgId,
        target,
        message: { messageId: `m-${randomBytes(8).toString("hex")}`, parts: [{ text }] },
        deadline: Date.now() + DEADLINE_MS,
        signal: new AbortController().signal,
        ...rest,
      });
    return { orgId, operator, target, deps: depsBy(outbound, {}), health, call };
  };
  return {
    database,
    outbound,
    given,
    close: async () => {
      await outbound.close();
      await database.close();
    },
  };
};

/** All events of a call, the last of which is its outcome. */
export const readCall = async (
  events: AsyncIterable<ExternalEvent>,
): Promise<{ readonly seen: readonly ExternalEvent[]; readonly outcome: ExternalOutcome }> => {
  const seen: ExternalEvent[] = [];
  for await (const event of events) seen.push(event);
  const last = seen.at(-1);
  if (last?.kind !== "outcome") throw new Error("The last event is no outcome");
  return { seen, outcome: last.outcome };
};

export const outcomeOf = async (events: AsyncIterable<ExternalEvent>): Promise<ExternalOutcome> =>
  (await readCall(events)).outcome;

/** The text of A2A Parts. */
export const partsText = ({ parts }: { readonly parts: readonly JsonObject[] }): string =>
  parts.map(({ text }) => (typeof text === "string" ? text : "")).join("");

/** The text of all artifacts of a finished task. */
export const outcomeArtifactText = (outcome: ExternalOutcome): string =>
  outcome.kind === "task" ? outcome.artifacts.map(partsText).join("") : "";
