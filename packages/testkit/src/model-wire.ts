import type { Json } from "@shaman/kernel";

/** What a model server answers to one request. */
export type ModelAnswer = {
  readonly text?: readonly string[];
  readonly toolCalls?: readonly { readonly id: string; readonly name: string; readonly input: Json }[];
  readonly usage?: {
    readonly inputTokens: number;
    readonly outputTokens: number;
    readonly cachedInputTokens?: number;
    readonly cacheWriteInputTokens?: number;
    readonly reasoningTokens?: number;
  };
  /** In the provider's own words; default by what the answer holds. */
  readonly finishReason?: string;
  /** The version that says it answered. */
  readonly model?: string;
};

/** The answer as it goes over the wire: the pieces that carry it, those that end it, and what counts tokens alone. */
export type WireAnswer = {
  readonly pieces: readonly string[];
  readonly usage: readonly string[];
  readonly ending: readonly string[];
};

export type Wire = "openai" | "anthropic";

/** Arguments arrive in halves, so that a client has to put them together. */
const halves = (text: string): readonly string[] => {
  const middle = Math.ceil(text.length / 2);
  return [text.slice(0, middle), text.slice(middle)];
};

const usageOf = (answer: ModelAnswer): Required<NonNullable<ModelAnswer["usage"]>> => ({
  inputTokens: 0,
  outputTokens: 0,
  cachedInputTokens: 0,
  cacheWriteInputTokens: 0,
  reasoningTokens: 0,
  ...answer.usage,
});

/** OpenAI's chat completions: `data:` lines, calls in parallel with their arguments interleaved, usage after the end. */
const openaiWire = (answer: ModelAnswer): WireAnswer => {
  const model = answer.model ?? "test-model-2026-01-01";
  const line = (fields: object): string =>
    `data: ${JSON.stringify({ id: "chatcmpl-1", object: "chat.completion.chunk", created: 1_767_225_600, model, ...fields })}\n\n`;
  const delta = (fields: object, finishReason: string | null = null): string =>
    line({ choices: [{ index: 0, delta: fields, finish_reason: finishReason }] });
  const calls = answer.toolCalls ?? [];
  const starts = calls.map(({ id, name }, index) =>
    delta({ tool_calls: [{ index, id, type: "function", function: { name, arguments: "" } }] }),
  );
  const argumentsOf = [0, 1].flatMap((half) =>
    calls.map(({ input }, index) =>
      delta({ tool_calls: [{ index, function: { arguments: halves(JSON.stringify(input))[half] } }] }),
    ),
  );
  const { inputTokens, outputTokens, cachedInputTokens, reasoningTokens } = usageOf(answer);
  const usage = line({
    choices: [],
    usage: {
      prompt_tokens: inputTokens,
      completion_tokens: outputTokens,
      total_tokens: inputTokens + outputTokens,
      prompt_tokens_details: { cached_tokens: cachedInputTokens },
      completion_tokens_details: { reasoning_tokens: reasoningTokens },
    },
  });
  return {
    pieces: [
      delta({ role: "assistant", content: "" }),
      ...(answer.text ?? []).map((text) => delta({ content: text })),
      ...starts,
      ...argumentsOf,
    ],
    usage: [usage],
    ending: [delta({}, answer.finishReason ?? (calls.length > 0 ? "tool_calls" : "stop")), usage, "data: [DONE]\n\n"],
  };
};

/** Anthropic's messages: named events, one content block after the other; cached tokens are counted apart. */
const anthropicWire = (answer: ModelAnswer): WireAnswer => {
  const event = (type: string, fields: object): string =>
    `event: ${type}\ndata: ${JSON.stringify({ type, ...fields })}\n\n`;
  const { inputTokens, outputTokens, cachedInputTokens, cacheWriteInputTokens, reasoningTokens } = usageOf(answer);
  const calls = answer.toolCalls ?? [];
  const block = (index: number, content: object, deltas: readonly object[]): string[] => [
    event("content_block_start", { index, content_block: content }),
    ...deltas.map((delta) => event("content_block_delta", { index, delta })),
    event("content_block_stop", { index }),
  ];
  const textBlock =
    answer.text === undefined
      ? []
      : block(
          0,
          { type: "text", text: "" },
          answer.text.map((text) => ({ type: "text_delta", text })),
        );
  const first = textBlock.length > 0 ? 1 : 0;
  const callBlocks = calls.flatMap(({ id, name, input }, index) =>
    block(
      first + index,
      { type: "tool_use", id, name, input: {} },
      halves(JSON.stringify(input)).map((part) => ({ type: "input_json_delta", partial_json: part })),
    ),
  );
  const message = {
    id: "msg_1",
    type: "message",
    role: "assistant",
    model: answer.model ?? "test-model-20260101",
    content: [],
    stop_reason: null,
    stop_sequence: null,
    usage: {
      input_tokens: inputTokens - cachedInputTokens - cacheWriteInputTokens,
      cache_read_input_tokens: cachedInputTokens,
      cache_creation_input_tokens: cacheWriteInputTokens,
      output_tokens: 1,
    },
  };
  const stopReason = answer.finishReason ?? (calls.length > 0 ? "tool_use" : "end_turn");
  const thought = reasoningTokens === 0 ? {} : { output_tokens_details: { thinking_tokens: reasoningTokens } };
  const counted = { output_tokens: outputTokens, ...thought };
  return {
    pieces: [event("message_start", { message }), event("ping", {}), ...textBlock, ...callBlocks],
    usage: [event("message_delta", { delta: { stop_reason: null, stop_sequence: null }, usage: counted })],
    ending: [
      event("message_delta", {
        delta: { stop_reason: stopReason, stop_sequence: null },
        usage: counted,
      }),
      event("message_stop", {}),
    ],
  };
};

export const wireAnswer = (wire: Wire, answer: ModelAnswer): WireAnswer => {
  switch (wire) {
    case "openai":
      return openaiWire(answer);
    case "anthropic":
      return anthropicWire(answer);
  }
};

/** The body of an error as the provider writes it. */
export const wireError = (wire: Wire, error: { readonly type: string; readonly message: string }): string =>
  JSON.stringify(wire === "openai" ? { error } : { type: "error", error });

/** An error inside a stream that has begun. */
export const wireStreamError = (wire: Wire, error: { readonly type: string; readonly message: string }): string =>
  wire === "openai" ? `data: ${wireError(wire, error)}\n\n` : `event: error\ndata: ${wireError(wire, error)}\n\n`;
