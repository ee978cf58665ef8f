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

/** Our conversation in the words of the AI SDK. */
export const promptOf = (messages: readonly ModelMessage[]): LanguageModelV4Message[] => messages.flatMap(messageOf);

export const jsonSchemaOf = (schema: JsonObject): LanguageModelV4FunctionTool["inputSchema"] =>
  // A JSON object is what a JSON Schema is; the SDK's type differs only in being mutable and closed.
  schema as LanguageModelV4FunctionTool["inputSchema"];

export const toolsOf = (tools: readonly ToolSpec[]): LanguageModelV4FunctionTool[] =>
  tools.map((tool) => ({
    type: "function",
    name: tool.name,
    description: tool.description,
    inputSchema: jsonSchemaOf(tool.inputSchema),
  }));
