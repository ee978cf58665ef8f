import type { ModelMessage } from "./model-port.ts";

/** Characters that one token stands for at the most, but for long runs of the same. */
const CHARS_A_TOKEN = 8;

const charsOf = (message: ModelMessage): number =>
  message.role === "tool" ? message.results.reduce((sum, { output }) => sum + output.length, 0) : message.text.length;

/** How many tokens so much text is at least. */
export const leastTokensOf = (chars: number): number => Math.floor(chars / CHARS_A_TOKEN);

/** How many tokens a conversation takes at least. What the provider counts is more, and counts. */
export const leastTokens = (messages: readonly ModelMessage[]): number =>
  leastTokensOf(messages.reduce((sum, message) => sum + charsOf(message), 0));
