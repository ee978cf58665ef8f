/** How much is measured. The full plan with both backends stays under 12 minutes on two cores. */
export type Plan = {
  readonly rounds: number;
  /** With 32 callers, for each target before the first round: servers run for days, their first seconds are compiling. */
  readonly warmUpCalls: number;
  readonly callsAt1: number;
  readonly callsAt32: number;
  readonly openCalls: number;
  /** The same for all targets, and below what the slowest of them sustains. */
  readonly openRatePerSecond: number;
  readonly streams: number;
  readonly slowStreams: number;
  readonly memoryAtCalls: readonly [first: number, second: number];
  readonly organizations: number;
};

export const fullPlan: Plan = {
  rounds: 5,
  warmUpCalls: 3_000,
  callsAt1: 300,
  callsAt32: 1_500,
  openCalls: 300,
  openRatePerSecond: 100,
  streams: 10,
  slowStreams: 1,
  memoryAtCalls: [2_000, 10_000],
  organizations: 1_000,
};

export const quickPlan: Plan = {
  rounds: 2,
  warmUpCalls: 300,
  callsAt1: 100,
  callsAt32: 500,
  openCalls: 100,
  openRatePerSecond: 100,
  streams: 4,
  slowStreams: 1,
  memoryAtCalls: [500, 1_500],
  organizations: 50,
};
