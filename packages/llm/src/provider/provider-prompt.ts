import type { LanguageModelV4FunctionTool, LanguageModelV4Message } from "@ai-sdk/provider";
import type { Json, JsonObject } from "@shaman/kernel";

import type { ModelMessage, ToolSpec } from "../model-port.ts";

type AssistantPart = Extract<LanguageModelV4Message, { role: "assistant" }>["content"][number];

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

const messageOf = (message: ModelMessage): LanguageModelV4Message[] => {
  switch (message.role) {
    case "system":
      return [{ role: "system", content: message.text }];
    case "user":
      return [{ role: "user", content: [{ type: "text", text: message.text }] }];
    case "assistant":
      return assistantMessage(message);
    case "tool":
      return [
        {
          role: "tool",
          content: message.results.map((result) => ({
            type: "tool-result",
            toolCallId: result.toolCallId,
            toolName: result.toolName,
            output: { type: result.isError ? "error-text" : "text", value: result.output },
          })),
        },
      ];
  }
};

/** Our conversation in the words of the AI SDK. The mark goes on the system prompt, the part that calls have in common. */
export const promptOf = (messages: readonly ModelMessage[], mark?: CacheMark): LanguageModelV4Message[] => {
  const prompt = messages.flatMap(messageOf);
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
