/** A tool's result as a script sees it. */
export type GivenResult = { readonly toolName: string; readonly output: string; readonly isError: boolean };

/** What a turn is matched against. */
export type Asked = {
  readonly prompt: string;
  readonly messageId: string;
  readonly turn: number;
  /** Results the tools have just given; empty when the last message is not theirs. */
  readonly toolResults: readonly GivenResult[];
};
