import { arch, cpus, platform, release, totalmem } from "node:os";

/** What the figures were measured on. */
export type MachineFacts = {
  readonly processor: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly system: string;
  readonly node: string;
  readonly postgres: string;
};

export const readMachine = (postgresVersion: string): MachineFacts => ({
  processor: cpus()[0]?.model ?? "unknown",
  cores: cpus().length,
  memoryBytes: totalmem(),
  system: `${platform()} ${release()} ${arch()}`,
  node: process.version,
  postgres: postgresVersion,
});
