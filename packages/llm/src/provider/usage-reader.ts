import { z } from "zod";

import type { ModelUsage } from "../model-port.ts";

type Counts = { readonly [Name in keyof Required<ModelUsage>]?: number | undefined };

/** A usage with what is not there left out. */
export const modelUsage = (counts: Counts): ModelUsage => ({
  inputTokens: counts.inputTokens ?? 0,
  outputTokens: counts.outputTokens ?? 0,
  cachedInputTokens: counts.cachedInputTokens ?? 0,
  ...(counts.cacheWriteInputTokens && { cacheWriteInputTokens: counts.cacheWriteInputTokens }),
  ...(counts.reasoningTokens && { reasoningTokens: counts.reasoningTokens }),
});

const count = z.int().min(0).nullish();

/**
 * The last chunk of a chat completion: https://platform.openai.com/docs/api-reference/chat-streaming
 * Some servers count in every chunk; in those on the way a choice has no reason yet why it stopped.
 */
const openaiChunk = z.object({
  choices: z.array(z.object({ finish_reason: z.string().nullish() })).catch([]),
  usage: z.object({
    prompt_tokens: count,
    completion_tokens: count,
    prompt_tokens_details: z.object({ cached_tokens: count, cache_write_tokens: count }).nullish(),
    completion_tokens_details: z.object({ reasoning_tokens: count }).nullish(),
  }),
});

const anthropicUsage = z.object({
  input_tokens: count,
  output_tokens: count,
  cache_read_input_tokens: count,
  cache_creation_input_tokens: count,
});

/**
 * `message_start` counts the input, `message_delta`, after all content, the output:
 * https://docs.claude.com/en/api/messages-streaming
 */
const anthropicChunk = z.union([
  z.object({ type: z.literal("message_start"), message: z.object({ usage: anthropicUsage }) }),
  z.object({ type: z.literal("message_delta"), usage: anthropicUsage }),
]);

const mayCount = (raw: unknown): boolean => {
  if (typeof raw !== "object" || raw === null) return false;
  return "usage" in raw || ("type" in raw && raw.type === "message_start");
};

/**
 * Follows what a provider says about tokens while it still streams. The SDK tells the usage with the end of an answer
 * only, and an answer that breaks off is charged for all the same.
 */
export const createUsageReader = () => {
  let seen: ModelUsage | undefined;
  let isComplete = false;
  const anthropic = { input: 0, output: 0, read: 0, written: 0 };

  const take = (raw: unknown): void => {
    if (!mayCount(raw)) return;
    const named = anthropicChunk.safeParse(raw);
    if (named.success) {
      isComplete = named.data.type === "message_delta";
      const usage = named.data.type === "message_start" ? named.data.message.usage : named.data.usage;
      anthropic.input = usage.input_tokens ?? anthropic.input;
      anthropic.output = usage.output_tokens ?? anthropic.output;
      anthropic.read = usage.cache_read_input_tokens ?? anthropic.read;
      anthropic.written = usage.cache_creation_input_tokens ?? anthropic.written;
      seen = modelUsage({
        inputTokens: anthropic.input + anthropic.read + anthropic.written,
        outputTokens: anthropic.output,
        cachedInputTokens: anthropic.read,
        cacheWriteInputTokens: anthropic.written,
      });
      return;
    }
    const chunk = openaiChunk.safeParse(raw);
    if (!chunk.success) return;
    const { usage, choices } = chunk.data;
    isComplete = choices.every(({ finish_reason: reason }) => Boolean(reason));
    seen = modelUsage({
      inputTokens: usage.prompt_tokens ?? 0,
      outputTokens: usage.completion_tokens ?? 0,
      cachedInputTokens: usage.prompt_tokens_details?.cached_tokens ?? 0,
      cacheWriteInputTokens: usage.prompt_tokens_details?.cache_write_tokens ?? 0,
      reasoningTokens: usage.completion_tokens_details?.reasoning_tokens ?? 0,
    });
  };
  return {
    take,
    usage: () => seen,
    /** Whether that was counted when the whole answer had been written. */
    isComplete: () => isComplete,
  };
};
