import { setTimeout as sleep } from "node:timers/promises";
import type { LoadGenerator } from "../load-generator.ts";
import type { Endpoint, Measurement } from "../load/protocol.ts";
import type { Plan } from "../plan.ts";
import type { Connections, Target } from "../targets/target.ts";

export type OrganizationFigures = {
  /** Calls spread over all organizations in turn, one caller. */
  readonly at1: readonly Measurement[];
  /** Calls to one organization while the others are there, one caller. */
  readonly at1SameOrganization: readonly Measurement[];
  /** The most connections seen while 32 callers spread their calls over all organizations. */
  readonly connections: Connections;
};

type Mutable = { at1: Measurement[]; at1SameOrganization: Measurement[]; connections: Connections };

const CONCURRENCY = 32;
const SAMPLE_MS = 250;
/** So that every pool has grown to what it needs under this load. */
const FEWEST_CALLS = 1_000;

const onlyFirst = (endpoint: Endpoint): Endpoint => ({ ...endpoint, callers: endpoint.callers.slice(0, 1) });

const sampleConnections = async (target: Target, until: Promise<unknown>): Promise<Connections> => {
  const state = { done: false };
  const ended = until.finally(() => (state.done = true));
  ended.catch(() => {});
  let most: Connections = { postgres: 0, redis: 0 };
  while (!state.done) {
    const now = await target.countConnections();
    most = { postgres: Math.max(most.postgres, now.postgres), redis: Math.max(most.redis, now.redis) };
    await sleep(SAMPLE_MS);
  }
  await ended;
  return most;
};

/**
 * The same product with one organization and with many, both running at once and measured in turns. Every organization
 * is called before the clock starts, with 32 callers, and the connections are counted meanwhile.
 */
export const measureOrganizations = async (
  { generator }: { readonly generator: LoadGenerator },
  { one, many }: { readonly one: Target; readonly many: Target },
  plan: Plan,
): Promise<{ readonly one: OrganizationFigures; readonly many: OrganizationFigures }> => {
  const start = (): Mutable => ({ at1: [], at1SameOrganization: [], connections: { postgres: 0, redis: 0 } });
  const figures = { one: start(), many: start() };
  const sides = [
    { target: one, into: figures.one },
    { target: many, into: figures.many },
  ];
  const calls = Math.max(2 * plan.organizations, FEWEST_CALLS);
  for (const { target, into } of sides) {
    const job = { kind: "closed" as const, endpoint: target.endpoint, concurrency: CONCURRENCY, warmUp: 0, calls };
    into.connections = await sampleConnections(target, generator.measure(job));
  }
  for (let round = 0; round < plan.rounds; round += 1) {
    for (const { target, into } of round % 2 === 0 ? sides : sides.toReversed()) {
      const job = { kind: "closed" as const, concurrency: 1, warmUp: 20, calls: plan.callsAt1 };
      into.at1.push(await generator.measure({ ...job, endpoint: target.endpoint }));
      into.at1SameOrganization.push(await generator.measure({ ...job, endpoint: onlyFirst(target.endpoint) }));
    }
  }
  return figures;
};
