import type { Json, JsonObject } from "@shaman/kernel";
import type { RequestDigest } from "@shaman/scripts";

/** A tool the model may call; `inputSchema` is a JSON Schema object. */
export type ToolSpec = { readonly name: string; readonly description: string; readonly inputSchema: JsonObject };

/** One call the model asks for; `id` is unique within the task and comes back with the result. */
export type ToolCall = { readonly id: string; readonly name: string; readonly input: Json };

/** An image or a document that belongs to the text of a message. */
export type Media = {
  /** One of `MEDIA_TYPES`. */
  readonly mediaType: string;
  /** SHA-256 of the content, lower-case hexadecimal: what it is known by in hashes of what was asked. */
  readonly sha256: string;
  /** Without line breaks: every provider takes it so, and nobody has to translate it. */
  readonly base64: string;
};

export type ToolResult = {
  readonly toolCallId: string;
  readonly toolName: string;
  readonly output: string;
  /** What `output` names as attachments 1, 2 and so on. It is data, and shown as such. */
  readonly media?: readonly Media[];
  readonly isError: boolean;
};

export type ModelMessage =
  | { readonly role: "system"; readonly text: string }
  | { readonly role: "user"; readonly text: string; readonly media?: readonly Media[] }
  | { readonly role: "assistant"; readonly text: string; readonly toolCalls: readonly ToolCall[] }
  | { readonly role: "tool"; readonly results: readonly ToolResult[] };

/** Tokens of one call, by the provider's own account. */
export type ModelUsage = {
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** Part of `inputTokens`: read from the provider's cache. */
  readonly cachedInputTokens: number;
  /** Part of `inputTokens`: written into the provider's cache, which some charge for. */
  readonly cacheWriteInputTokens?: number;
  /** Part of `outputTokens`: thought, and not shown. */
  readonly reasoningTokens?: number;
};

/** What a provider will charge for a call that gave no answer. */
export type BilledUsage = { readonly model: string; readonly usage: ModelUsage };

export type ModelRequest = {
  /** `provider/model`, such as `openai/gpt-5` or `scripted/greeting.yaml`. */
  readonly model: string;
  readonly messages: readonly ModelMessage[];
  readonly tools: readonly ToolSpec[];
  readonly temperature?: number;
  readonly maxOutputTokens?: number;
  /** A JSON Schema that the answer's text should fit where it calls no tool. Providers are asked for it; nobody checks it here. */
  readonly outputSchema?: JsonObject;
  /** Which model call of its task this is, counted from 1. */
  readonly turn: number;
  /** The id of the caller's message that the task answers. */
  readonly messageId: string;
  readonly signal: AbortSignal;
};

export type FinishReason = "stop" | "tool_calls" | "length" | "content_filter";

/** A model of a list that was asked and did not answer, before another one did. */
export type ModelAttempt = {
  /** `provider/model` as the list names it. */
  readonly model: string;
  /** The code of its error, and the reason for operators. */
  readonly code: string;
  readonly message: string;
};

/** How an answer came about, for the record. */
export type ModelNotes = {
  /** In the order in which they were asked. */
  readonly tried?: readonly ModelAttempt[];
  /** Nobody was asked: the same was asked before. */
  readonly cached?: true;
  /** The provider refused the request with its images and documents, for this reason, and answered it without them. */
  readonly mediaRefused?: string;
  /** What a provider's model was asked, so that its answer can be played again to the same. */
  readonly request?: RequestDigest;
};

/** `text` carries one more piece of the answer; `done` comes once, last, and carries the whole of it. */
export type ModelEvent =
  | { readonly type: "text"; readonly text: string }
  | {
      readonly type: "done";
      readonly text: string;
      readonly toolCalls: readonly ToolCall[];
      readonly usage: ModelUsage;
      readonly finishReason: FinishReason;
      /** The model that answered, by the provider's own account. */
      readonly model: string;
      /** What models that did not answer counted all the same. */
      readonly billed?: readonly BilledUsage[];
      readonly notes?: ModelNotes;
    };

/**
 * One call of a language model: no tool loop, no retry. Either ends with a `done` event or throws an `AppError` whose
 * code is one of `MODEL_ERROR_CODES`; `isRetryableModelError` says whether the same request may succeed later.
 */
export type Model = { readonly stream: (request: ModelRequest) => AsyncIterable<ModelEvent> };
