import type { BackendFigures } from "./backend-run.ts";
import type { Measurement } from "./load/protocol.ts";
import { medianRatio } from "./scenarios/calls.ts";
import type { Connections } from "./targets/target.ts";

/** What the project promises about its speed on one backend; `null` where the part was not measured. */
export type Ratios = {
  /** p50 at one caller against the lean path; promised ≤ 1.5. */
  readonly p50At1: number | null;
  /** Calls a second at 32 callers against the lean path; promised ≥ 0.67. */
  readonly throughputAt32: number | null;
  /** Time of a stream of 400 chunks against one of 100; promised ≤ 4.4. */
  readonly streaming400to100: number | null;
  /** p50 with the calls spread over 1,000 organizations against one; promised ≤ 1.1. */
  readonly p50With1000Organizations: number | null;
  /** Connections to PostgreSQL and Redis with one organization and with 1,000; promised equal. */
  readonly connections1: number | null;
  readonly connections1000: number | null;
};

const p50 = (measurement: Measurement): number => measurement.p50Ms;
const perSecond = (measurement: Measurement): number => measurement.perSecond;
const total = ({ postgres, redis }: Connections): number => postgres + redis;

const streamRounds = (figures: BackendFigures, chunks: number): readonly Measurement[] | undefined =>
  figures.streaming?.shaman?.find(({ shape }) => shape.chunks === chunks && shape.delayMs === 0)?.rounds;

/** Each ratio is the median over the rounds of the ratios within one round. */
export const ratiosOf = (figures: BackendFigures): Ratios => {
  const { calls, organizations } = figures;
  const [ours, lean] = [calls?.shaman, calls?.lean];
  const compared = ours !== undefined && lean !== undefined;
  const [short, long] = [streamRounds(figures, 100), streamRounds(figures, 400)];
  return {
    p50At1: compared ? medianRatio(ours.at1, lean.at1, p50) : null,
    throughputAt32: compared ? medianRatio(ours.at32, lean.at32, perSecond) : null,
    streaming400to100: short !== undefined && long !== undefined ? medianRatio(long, short, p50) : null,
    p50With1000Organizations:
      organizations === undefined ? null : medianRatio(organizations.many.at1, organizations.one.at1, p50),
    connections1: organizations === undefined ? null : total(organizations.one.connections),
    connections1000: organizations === undefined ? null : total(organizations.many.connections),
  };
};
