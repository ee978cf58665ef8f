import type { LanguageModelV4FinishReason, LanguageModelV4StreamPart, LanguageModelV4Usage } from "@ai-sdk/provider";
import type { Json } from "@shaman/kernel";
import { z } from "zod";

import { modelUnavailable } from "../model-error.ts";
import type { FinishReason, ModelEvent, ModelUsage, ToolCall } from "../model-port.ts";

/** Collects the parts of one answer. */
export type ProviderAnswer = {
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

const usageOf = (usage: LanguageModelV4Usage): ModelUsage => ({
  inputTokens: usage.inputTokens.total ?? 0,
  outputTokens: usage.outputTokens.total ?? 0,
  cachedInputTokens: usage.inputTokens.cacheRead ?? 0,
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
  let answered = model;

  const take = (part: LanguageModelV4StreamPart): ModelEvent | undefined => {
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
  return { take };
};
