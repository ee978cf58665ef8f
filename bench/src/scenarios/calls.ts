import type { LoadGenerator } from "../load-generator.ts";
import type { Measurement } from "../load/protocol.ts";
import { median } from "../load/statistics.ts";
import type { Plan } from "../plan.ts";
import { cpuMs, cpuMsWithChildren } from "../process-figures.ts";
import type { Target } from "../targets/target.ts";

/** Processor milliseconds a call costs in each process of the target, and in PostgreSQL. */
export type CpuMsPerCall = Readonly<Record<string, number>>;

export type CallRounds = {
  readonly at1: readonly Measurement[];
  readonly at32: readonly Measurement[];
  readonly open: readonly Measurement[];
  readonly cpuMsPerCallAt32: readonly CpuMsPerCall[];
};

type Mutable = { at1: Measurement[]; at32: Measurement[]; open: Measurement[]; cpuMsPerCallAt32: CpuMsPerCall[] };

const WARM_UP_CALLS = 30;

type CallDeps = { readonly generator: LoadGenerator; readonly postgresPid: number };

const readCpu = ({ postgresPid }: CallDeps, target: Target): ReadonlyMap<string, number> =>
  new Map([
    ...target.processes.map(({ name, pid }): [string, number] => [name, cpuMs(pid)]),
    ["postgres", cpuMsWithChildren(postgresPid)],
  ]);

const measureOneRound = async (
  deps: CallDeps,
  target: Target,
  into: { plan: Plan; rounds: Mutable },
): Promise<void> => {
  const { plan, rounds } = into;
  const common = { endpoint: target.endpoint, warmUp: WARM_UP_CALLS };
  const { generator } = deps;
  rounds.at1.push(await generator.measure({ kind: "closed", ...common, concurrency: 1, calls: plan.callsAt1 }));
  const before = readCpu(deps, target);
  rounds.at32.push(await generator.measure({ kind: "closed", ...common, concurrency: 32, calls: plan.callsAt32 }));
  const after = readCpu(deps, target);
  const calls = plan.callsAt32 + WARM_UP_CALLS;
  const perCall = [...after].map(([name, ms]): [string, number] => [name, (ms - (before.get(name) ?? 0)) / calls]);
  rounds.cpuMsPerCallAt32.push(Object.fromEntries(perCall));
  const { openRatePerSecond: ratePerSecond, openCalls } = plan;
  rounds.open.push(await generator.measure({ kind: "open", ...common, ratePerSecond, calls: openCalls }));
};

/**
 * Blocking calls: closed loop at 1 and at 32 callers, open loop at the common rate. The targets take turns within each
 * round, and every other round goes through them backwards, so that a machine that drifts drifts for all of them.
 */
export const measureCalls = async (
  deps: CallDeps,
  targets: readonly Target[],
  plan: Plan,
): Promise<ReadonlyMap<string, CallRounds>> => {
  const results = new Map<string, Mutable>();
  for (const { name } of targets) results.set(name, { at1: [], at32: [], open: [], cpuMsPerCallAt32: [] });
  for (const { endpoint } of targets) {
    await deps.generator.measure({ kind: "closed", endpoint, warmUp: 0, concurrency: 32, calls: plan.warmUpCalls });
  }
  for (let round = 0; round < plan.rounds; round += 1) {
    for (const target of round % 2 === 0 ? targets : targets.toReversed()) {
      const rounds = results.get(target.name);
      // Nothing is promised against the SDK, so half the rounds will do; the time goes to what is compared.
      if (target.name === "sdk" && round % 2 === 1) continue;
      if (rounds !== undefined) await measureOneRound(deps, target, { plan, rounds });
    }
  }
  return results;
};

/** The median over the rounds of one figure of A divided by the same figure of B in the same round. */
export const medianRatio = (
  a: readonly Measurement[],
  b: readonly Measurement[],
  figure: (measurement: Measurement) => number,
): number =>
  median(
    a.flatMap((measurement, round) => {
      const other = b[round];
      return other === undefined ? [] : [figure(measurement) / figure(other)];
    }),
  );
