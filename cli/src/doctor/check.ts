import type { Cli } from "../cli.ts";

export type Finding = {
  readonly state: "ok" | "warning" | "failed";
  readonly message: string;
  /** What to do about it. */
  readonly hint?: string;
};

/** One thing that can be wrong. What it throws counts as failed, with the error's message. */
export type Check = { readonly name: string; readonly run: (cli: Cli) => Promise<Finding> };
