import type { Endpoint } from "../load/protocol.ts";
import type { RunningProcess } from "../processes.ts";

export type Backend = "redis" | "postgres";

/** One system under load: where to send calls, and which processes do the work. */
export type Target = {
  readonly name: string;
  readonly endpoint: Endpoint;
  readonly processes: readonly RunningProcess[];
  /** The database of this target alone, for counting its connections. */
  readonly database: string;
  readonly stop: () => Promise<void>;
};

/** Stops processes in the given order, the entrance first, each after the one before is gone. */
export const stopAll = async (processes: readonly RunningProcess[]): Promise<void> => {
  for (const each of processes) await each.stop();
};
