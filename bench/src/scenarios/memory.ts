import { setTimeout as sleep } from "node:timers/promises";
import type { LoadGenerator } from "../load-generator.ts";
import { residentBytes } from "../process-figures.ts";
import type { Target } from "../targets/target.ts";

export type MemoryFigures = Readonly<
  Record<string, { readonly firstBytes: number; readonly secondBytes: number; readonly ratio: number }>
>;

const SETTLE_MS = 1_000;
const CONCURRENCY = 32;

const readResident = async ({ processes }: Target): Promise<ReadonlyMap<string, number>> => {
  await sleep(SETTLE_MS);
  return new Map(processes.map(({ name, pid }) => [name, residentBytes(pid) ?? Number.NaN]));
};

/**
 * Resident memory of each process of a target that was just started, after the first and after the second number of
 * calls in all. Nothing is collected by force: this is what an operator sees.
 */
export const measureMemory = async (
  { generator }: { readonly generator: LoadGenerator },
  target: Target,
  [firstCalls, secondCalls]: readonly [number, number],
): Promise<MemoryFigures> => {
  const call = (calls: number): Promise<unknown> =>
    generator.measure({ kind: "closed", endpoint: target.endpoint, concurrency: CONCURRENCY, warmUp: 0, calls });
  await call(firstCalls);
  const first = await readResident(target);
  await call(secondCalls - firstCalls);
  const second = await readResident(target);
  return Object.fromEntries(
    [...first].map(([name, firstBytes]) => {
      const secondBytes = second.get(name) ?? Number.NaN;
      return [name, { firstBytes, secondBytes, ratio: secondBytes / firstBytes }];
    }),
  );
};
