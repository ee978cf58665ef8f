import type { Logger } from "@shaman/telemetry";

/** A server that is built; nothing listens yet. */
export type RunningServer = {
  readonly log: Logger;
  readonly listen: (port: number) => Promise<void>;
  /** Readiness off, streams ended, connections closed. */
  readonly close: () => Promise<void>;
};
