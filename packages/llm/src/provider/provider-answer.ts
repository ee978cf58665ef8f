import type { LanguageModelV4FinishReason, LanguageModelV4StreamPart, LanguageModelV4Usage } from "@ai-sdk/provider";
import type { Json } from "@shaman/kernel";
import { z } from "zod";

import { leastTokensOf } from "../least-tokens.ts";
import { modelUnavailable } from "../model-error.ts";
import type { BilledUsage, FinishReason, ModelEvent, ModelUsage, ToolCall } from "../model-port.ts";
import { createUsageReader, modelUsage } from "./usage-reader.ts";

/** Collects the parts of one answer. */
export type ProviderAnswer = {
  /** What the provider has counted so far, if it said so: what a call costs that breaks off now. */
  readonly billed: () => readonly BilledUsage[];
  /** The same for a call that we cut: until the provider has counted all of it, at least `inputTokens` and what it wrote. */
  readonly billedAtLeast: (inputTokens: number) => readonly BilledUsage[];
  /** The event that a part gives, if it gives one; throws what the provider put into the stream as an error. */
  readonly take: (part: LanguageModelV4StreamPart) => ModelEvent | undefined;
};

const jsonValue = z.json();

/** Input that is no JSON stays a text, so that the model can be told about it. */
const inputOf = (text: string): Json => {
  if (text.trim() === "") return {};
  try {
    return jsonValue.parse(JSON.parse(text));
  } catch {
    return text;
  }
};

const usageOf = ({ inputTokens, outputTokens }: LanguageModelV4Usage): ModelUsage =>
  modelUsage({
    inputTokens: inputTokens.total,
    outputTokens: outputTokens.total,
    cachedInputTokens: inputTokens.cacheRead,
    cacheWriteInputTokens: inputTokens.cacheWrite,
    reasoningTokens: outputTokens.reasoning,
  });

const finishReasonOf = (
  reason: LanguageModelV4FinishReason,
  context: { readonly model: string; readonly calls: number },
): FinishReason => {
  switch (reason.unified) {
    case "length":
      return "length";
    case "content-filter":
      return "content_filter";
    case "error":
    case "interrupted":
      throw modelUnavailable(`${context.model}: the stream ended before the answer was complete.`);
    case "tool-calls":
    case "stop":
    case "other":
      // Some servers say `stop` and call tools all the same.
      return context.calls > 0 ? "tool_calls" : "stop";
  }
};

/** `model` is `provider/model` as requested; a provider may name the exact version that answered. */
export const createProviderAnswer = (model: string): ProviderAnswer => {
  const provider = model.slice(0, model.indexOf("/"));
  const toolCalls: ToolCall[] = [];
  let text = "";
  let writtenChars = 0;
  let answered = model;
  const counted = createUsageReader();

  const take = (part: LanguageModelV4StreamPart): ModelEvent | undefined => {
    if (part.type === "raw") {
      counted.take(part.rawValue);
      return undefined;
    }
    if (part.type === "text-delta" || part.type === "reasoning-delta" || part.type === "tool-input-delta") {
      writtenChars += part.delta.length;
    }
    if (part.type === "text-delta") {
      if (part.delta === "") return undefined;
      text += part.delta;
      return { type: "text", text: part.delta };
    }
    if (part.type === "tool-call") {
      if (part.providerExecuted !== true) {
        toolCalls.push({ id: part.toolCallId, name: part.toolName, input: inputOf(part.input) });
      }
      return undefined;
    }
    if (part.type === "response-metadata") {
      if (part.modelId !== undefined) answered = `${provider}/${part.modelId}`;
      return undefined;
    }
    if (part.type === "error") throw part.error;
    if (part.type !== "finish") return undefined;
    const finishReason = finishReasonOf(part.finishReason, { model, calls: toolCalls.length });
    return { type: "done", text, toolCalls, usage: usageOf(part.usage), finishReason, model: answered };
  };
  const billed = (): readonly BilledUsage[] => {
    const usage = counted.usage();
    return usage === undefined ? [] : [{ model: answered, usage }];
  };
  const billedAtLeast = (inputTokens: number): readonly BilledUsage[] => {
    if (counted.isComplete()) return billed();
    const seen = counted.usage() ?? modelUsage({ inputTokens });
    const outputTokens = Math.max(seen.outputTokens, leastTokensOf(writtenChars));
    return [{ model: answered, usage: { ...seen, outputTokens } }];
  };
  return { take, billed, billedAtLeast };
};
