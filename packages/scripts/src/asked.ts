/** A tool's result as a script sees it. */
export type GivenResult = { readonly toolName: string; readonly output: string; readonly isError: boolean };

/** A digest of everything a model was asked, part by part; what a recorded turn answers. */
export type RequestDigest = {
  readonly system: string;
  readonly messages: string;
  readonly tools: string;
  /** Temperature and form of the answer. */
  readonly settings: string;
};

/** What a turn is matched against. */
export type Asked = {
  readonly prompt: string;
  readonly messageId: string;
  readonly turn: number;
  /** Results the tools have just given; empty when the last message is not theirs. */
  readonly toolResults: readonly GivenResult[];
  /** Worked out only where a turn wants it. */
  readonly request?: () => RequestDigest;
};
