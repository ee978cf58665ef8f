import type { LanguageModelV4FunctionTool, LanguageModelV4Message } from "@ai-sdk/provider";
import type { Json, JsonObject } from "@shaman/kernel";

import type { ModelMessage, ToolSpec } from "../model-port.ts";
import { mediaParts, readResult, type MediaSupport, type ShownResult } from "./prompt-media.ts";

type AssistantPart = Extract<LanguageModelV4Message, { role: "assistant" }>["content"][number];
type ToolPart = Extract<LanguageModelV4Message, { role: "tool" }>["content"][number];

/** Providers take objects only; what a model wrote instead is shown to it as it was. */
const objectOf = (input: Json): Json =>
  typeof input === "object" && input !== null && !Array.isArray(input) ? input : { invalidInput: input };

const assistantMessage = (message: Extract<ModelMessage, { role: "assistant" }>): LanguageModelV4Message[] => {
  const content: AssistantPart[] = message.text === "" ? [] : [{ type: "text", text: message.text }];
  for (const call of message.toolCalls) {
    content.push({ type: "tool-call", toolCallId: call.id, toolName: call.name, input: objectOf(call.input) });
  }
  // Providers refuse a message that says nothing.
  return content.length === 0 ? [] : [{ role: "assistant", content }];
};

/** What a provider's SDK takes as the mark behind which everything before is worth caching. */
export type CacheMark = NonNullable<LanguageModelV4FunctionTool["providerOptions"]>;

/** An error is marked as such in the provider's own form, which has room for text alone. */
const holdsParts = ({ result, parts }: ShownResult, media: MediaSupport): boolean =>
  media.inResults && !result.isError && parts.length > 0;

const toolPart = (shown: ShownResult, media: MediaSupport): ToolPart => {
  const { result, text, parts } = shown;
  const { toolCallId, toolName, isError } = result;
  return {
    type: "tool-result",
    toolCallId,
    toolName,
    output: holdsParts(shown, media)
      ? { type: "content", value: [{ type: "text", text }, ...parts] }
      : { type: isError ? "error-text" : "text", value: text },
  };
};

const toolMessages = (
  { results }: Extract<ModelMessage, { role: "tool" }>,
  media: MediaSupport,
): LanguageModelV4Message[] => {
  const shown = results.map((result) => readResult(result, media));
  const after = shown.flatMap((one) => (holdsParts(one, media) ? [] : one.parts));
  return [
    { role: "tool", content: shown.map((one) => toolPart(one, media)) },
    ...(after.length > 0 ? [{ role: "user" as const, content: after }] : []),
  ];
};

const messagesOf = (message: ModelMessage, media: MediaSupport): LanguageModelV4Message[] => {
  switch (message.role) {
    case "system":
      return [{ role: "system", content: message.text }];
    case "user": {
      const parts = mediaParts(message.media ?? [], media);
      return [{ role: "user", content: [{ type: "text", text: message.text }, ...parts] }];
    }
    case "assistant":
      return assistantMessage(message);
    case "tool":
      return toolMessages(message, media);
  }
};

/** Our conversation in the words of the AI SDK. The mark goes on the system prompt, the part that calls have in common. */
export const promptOf = (
  messages: readonly ModelMessage[],
  { media, mark }: { readonly media: MediaSupport; readonly mark: CacheMark | undefined },
): LanguageModelV4Message[] => {
  const prompt = messages.flatMap((message) => messagesOf(message, media));
  const last = prompt.findLastIndex((message) => message.role === "system");
  return mark === undefined
    ? prompt
    : prompt.map((message, index) => (index === last ? { ...message, providerOptions: mark } : message));
};

export const jsonSchemaOf = (schema: JsonObject): LanguageModelV4FunctionTool["inputSchema"] =>
  // A JSON object is what a JSON Schema is; the SDK's type differs only in being mutable and closed.
  schema as LanguageModelV4FunctionTool["inputSchema"];

/** The mark goes on the last tool: agents with the same tools share them in the cache, whatever their prompts. */
export const toolsOf = (tools: readonly ToolSpec[], mark?: CacheMark): LanguageModelV4FunctionTool[] =>
  tools.map((tool, index) => ({
    type: "function",
    name: tool.name,
    description: tool.description,
    inputSchema: jsonSchemaOf(tool.inputSchema),
    ...(mark !== undefined && index === tools.length - 1 && { providerOptions: mark }),
  }));
