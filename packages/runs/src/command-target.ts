/** The task a command is for, and who gives it. */
export type CommandTarget = {
  readonly orgId: string;
  readonly runId: string;
  readonly taskId: string;
  readonly agent: string;
  /** Who asks: a principal. */
  readonly actor: string;
  readonly server: "public" | "web";
  readonly protocol: string;
};
