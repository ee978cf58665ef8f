import type { LoadGenerator } from "./load-generator.ts";
import type { Plan } from "./plan.ts";
import { measureCalls, type CallRounds } from "./scenarios/calls.ts";
import { measureMemory, type MemoryFigures } from "./scenarios/memory.ts";
import { measureOrganizations, type OrganizationFigures } from "./scenarios/organizations.ts";
import { measureStreaming, type StreamRounds } from "./scenarios/streaming.ts";
import type { Postgres } from "./stores.ts";
import { startLean } from "./targets/lean.ts";
import { startSdk } from "./targets/sdk.ts";
import type { Seeder } from "./targets/shaman-seed.ts";
import { startShaman } from "./targets/shaman.ts";
import { stopAll, type Backend, type Target } from "./targets/target.ts";

export const PARTS = ["calls", "memory", "streaming", "organizations"] as const;
export type Part = (typeof PARTS)[number];

export const TARGETS = ["shaman", "lean", "sdk"] as const;
export type TargetName = (typeof TARGETS)[number];

/** Everything measured on one BullMQ backend; what was not asked for is absent. */
export type BackendFigures = {
  readonly calls?: Readonly<Record<string, CallRounds>>;
  readonly memory?: Readonly<Record<string, MemoryFigures>>;
  readonly streaming?: Readonly<Record<string, readonly StreamRounds[]>>;
  readonly organizations?: { readonly one: OrganizationFigures; readonly many: OrganizationFigures };
};

export type RunDeps = {
  readonly generator: LoadGenerator;
  readonly postgres: Postgres;
  readonly seeder: Seeder;
  readonly log: (line: string) => void;
};

export type RunOptions = {
  readonly backend: Backend;
  readonly plan: Plan;
  readonly parts: readonly Part[];
  readonly targets: readonly TargetName[];
};

const startTarget = (deps: RunDeps, backend: Backend, name: TargetName): Promise<Target> => {
  switch (name) {
    case "shaman":
      return startShaman(deps, { backend, organizations: 1, coalescing: "default" });
    case "lean":
      return startLean(deps, backend);
    case "sdk":
      return startSdk(deps);
  }
};

const entriesOf = async <T>(
  targets: readonly Target[],
  measure: (target: Target) => Promise<T>,
): Promise<Readonly<Record<string, T>>> => {
  const entries: [string, T][] = [];
  for (const target of targets) entries.push([target.name, await measure(target)]);
  return Object.fromEntries(entries);
};

const measureTogether = async (
  deps: RunDeps,
  options: RunOptions,
  targets: readonly Target[],
): Promise<BackendFigures> => {
  const { plan, parts, backend } = options;
  const step = (what: string): void => deps.log(`${backend}: ${what}`);
  const without = (name: TargetName): readonly Target[] => targets.filter((target) => target.name !== name);
  const figures: { -readonly [K in keyof BackendFigures]: BackendFigures[K] } = {};
  if (parts.includes("memory")) {
    step(`resident memory after ${plan.memoryAtCalls.join(" and ")} calls`);
    figures.memory = await entriesOf(without("sdk"), (target) => measureMemory(deps, target, plan.memoryAtCalls));
  }
  if (parts.includes("calls")) {
    step(`blocking calls, ${plan.rounds} rounds of ${targets.map(({ name }) => name).join(", ")}`);
    const rounds = await measureCalls({ ...deps, postgresPid: deps.postgres.pid }, targets, plan);
    figures.calls = Object.fromEntries(rounds);
  }
  return figures;
};

/** Streams of the product with coalescing off, and of the SDK, which has none. */
const measureStreams = async (
  deps: RunDeps,
  options: RunOptions,
): Promise<NonNullable<BackendFigures["streaming"]>> => {
  const { backend, plan } = options;
  deps.log(`${backend}: streams of 100 and 400 chunks`);
  const targets: Target[] = [];
  try {
    if (options.targets.includes("shaman")) {
      targets.push(await startShaman(deps, { backend, organizations: 1, coalescing: "off" }));
    }
    if (options.targets.includes("sdk")) targets.push(await startSdk(deps));
    return await entriesOf(targets, (target) =>
      measureStreaming(deps, target, { plan, rounds: target.name === "shaman" ? plan.rounds : 1 }),
    );
  } finally {
    await stopAll(targets);
  }
};

const measureBothSizes = async (
  deps: RunDeps,
  { backend, plan }: RunOptions,
): Promise<NonNullable<BackendFigures["organizations"]>> => {
  deps.log(`${backend}: one organization and ${plan.organizations}`);
  const one = await startShaman(deps, { backend, organizations: 1, coalescing: "default" });
  const many = await startShaman(deps, { backend, organizations: plan.organizations, coalescing: "default" });
  try {
    return await measureOrganizations(deps, { one, many }, plan);
  } finally {
    await stopAll([one, many]);
  }
};

/** Memory first, while the processes are new; then calls in turns. */
const measureSideBySide = async (deps: RunDeps, options: RunOptions): Promise<BackendFigures> => {
  if (!options.parts.includes("memory") && !options.parts.includes("calls")) return {};
  const targets: Target[] = [];
  try {
    for (const name of options.targets) targets.push(await startTarget(deps, options.backend, name));
    return await measureTogether(deps, options, targets);
  } finally {
    await stopAll(targets);
  }
};

/** Measures everything asked for on one backend: the targets side by side first, then the product in two sizes. */
export const runBackend = async (deps: RunDeps, options: RunOptions): Promise<BackendFigures> => {
  const { parts, targets } = options;
  let figures = await measureSideBySide(deps, options);
  if (parts.includes("streaming")) figures = { ...figures, streaming: await measureStreams(deps, options) };
  if (!parts.includes("organizations") || !targets.includes("shaman")) return figures;
  return { ...figures, organizations: await measureBothSizes(deps, options) };
};
