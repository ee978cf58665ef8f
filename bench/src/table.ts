import type { BackendFigures } from "./backend-run.ts";
import type { Measurement } from "./load/protocol.ts";
import { median } from "./load/statistics.ts";
import type { Ratios } from "./ratios.ts";

type Cells = readonly string[];

const MIB = 1024 * 1024;

const align = (rows: readonly Cells[]): string => {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const line = (row: Cells): string =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join("  ");
  return rows.map(line).join("\n");
};

const middle = (rounds: readonly Measurement[], figure: (measurement: Measurement) => number): string =>
  median(rounds.map(figure)).toFixed(2);

const p50 = (measurement: Measurement): number => measurement.p50Ms;
const p99 = (measurement: Measurement): number => measurement.p99Ms;

const callRows = (calls: NonNullable<BackendFigures["calls"]>): readonly Cells[] => [
  ["calls", "1: p50 ms", "1: p99", "32: calls/s", "32: p50", "32: p99", "open: p50", "open: p99", "CPU ms/call"],
  ...Object.entries(calls).map(([name, { at1, at32, open, cpuMsPerCallAt32 }]) => [
    name,
    middle(at1, p50),
    middle(at1, p99),
    middle(at32, ({ perSecond }) => perSecond),
    middle(at32, p50),
    middle(at32, p99),
    middle(open, p50),
    middle(open, p99),
    median(cpuMsPerCallAt32.map((each) => Object.values(each).reduce((sum, ms) => sum + ms, 0))).toFixed(2),
  ]),
];

const streamRows = (streaming: NonNullable<BackendFigures["streaming"]>): readonly Cells[] => [
  ["streams", "chunks", "apart ms", "p50 ms", "first chunk ms", "events"],
  ...Object.entries(streaming).flatMap(([name, shapes]) =>
    shapes.map(({ shape, rounds }) => [
      name,
      String(shape.chunks),
      String(shape.delayMs),
      middle(rounds, p50),
      middle(rounds, ({ stream }) => stream?.firstChunkP50Ms ?? Number.NaN),
      `${Math.min(...rounds.map(({ stream }) => stream?.minChunkEvents ?? 0))}–${Math.max(...rounds.map(({ stream }) => stream?.maxChunkEvents ?? 0))}`,
    ]),
  ),
];

const memoryRows = (memory: NonNullable<BackendFigures["memory"]>): readonly Cells[] => [
  ["resident memory", "first MiB", "second MiB", "ratio"],
  ...Object.values(memory).flatMap((processes) =>
    Object.entries(processes).map(([name, { firstBytes, secondBytes, ratio }]) => [
      name,
      (firstBytes / MIB).toFixed(0),
      (secondBytes / MIB).toFixed(0),
      ratio.toFixed(2),
    ]),
  ),
];

const organizationRows = (organizations: NonNullable<BackendFigures["organizations"]>): readonly Cells[] => [
  ["organizations", "p50 ms over all", "p50 ms in one", "PostgreSQL connections", "Redis connections"],
  ...Object.entries(organizations).map(([name, { at1, at1SameOrganization, connections }]) => [
    name,
    middle(at1, p50),
    middle(at1SameOrganization, p50),
    String(connections.postgres),
    String(connections.redis),
  ]),
];

const PROMISES: Readonly<Record<keyof Ratios, string>> = {
  p50At1: "≤ 1.5",
  throughputAt32: "≥ 0.67",
  streaming400to100: "≤ 4.4",
  p50With1000Organizations: "≤ 1.1",
  connections1: "",
  connections1000: "the same",
};

const ratioRows = (ratios: Ratios): readonly Cells[] => [
  ["ratio", "measured", "promised"],
  ...Object.entries(PROMISES).map(([name, promise]) => {
    const value = Object.entries(ratios).find(([key]) => key === name)?.[1] ?? null;
    return [name, value === null ? "–" : String(Math.round(value * 100) / 100), promise];
  }),
];

/** The figures of one backend as text for a terminal; medians over the rounds. */
export const formatBackend = (backend: string, figures: BackendFigures, ratios: Ratios): string => {
  const tables = [
    figures.calls && callRows(figures.calls),
    figures.streaming && streamRows(figures.streaming),
    figures.memory && memoryRows(figures.memory),
    figures.organizations && organizationRows(figures.organizations),
    ratioRows(ratios),
  ];
  const texts = tables.flatMap((rows) => (rows === undefined ? [] : [align(rows)]));
  return [`\n== BullMQ on ${backend === "redis" ? "Redis" : "PostgreSQL"} ==`, ...texts].join("\n\n");
};
