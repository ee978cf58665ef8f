import { z } from "zod";

/**
 * What a script file holds. The first turn whose `match` agrees with the request answers it:
 *
 * ```yaml
 * turns:
 *   - match: {prompt: {regex: "order (?P<order>[A-Z]+-\\d+)"}, turn: 1}
 *     text: "Looking up {{order}}."
 *     toolCalls: [{name: order_lookup, input: {id: "{{order}}"}}]
 *   - match: {toolResult: {tool: order_lookup, output: shipped}}
 *     text: ["It is ", "on its way."]
 *     delayMs: 20
 *     usage: {inputTokens: 120, outputTokens: 6}
 *   - error: {status: 429, retryAfterSeconds: 2}
 * ```
 *
 * A turn with `match: {request: …}` is a recording of a real model (`./shaman model record`): it answers exactly the request
 * it was recorded from, and its texts are taken as they are.
 */
const MAX_TURNS = 200;
const MAX_CHUNKS = 5_000;
const MAX_TOOL_CALLS = 32;
const MAX_DELAY_MS = 600_000;
const MAX_PATTERN_CHARS = 1_000;

const patternForm = "must be a text, or {regex: a pattern in RE2 syntax}";

const regexSchema = z.strictObject({ regex: z.string().min(1).max(MAX_PATTERN_CHARS) });
const textPattern = z.union([z.string().min(1), regexSchema], { error: patternForm });

const toolResultSchema = z.strictObject({
  tool: z.string().min(1).optional(),
  output: textPattern.optional(),
  isError: z.boolean().optional(),
});

const delayMs = z.int().min(0).max(MAX_DELAY_MS);
const tokens = z.int().min(0).max(1_000_000_000);

const chunkSchema = z.union([z.string(), z.strictObject({ text: z.string(), delayMs: delayMs.optional() })], {
  error: "must be a text, or {text, delayMs}",
});

const digest = z.string().regex(/^[A-Za-z0-9_-]{22}$/, "must be a digest as `./shaman model record` writes it");

const turnSchema = z
  .strictObject({
    /** Every condition given must hold; a turn without `match` answers anything. */
    match: z
      .strictObject({
        /** In the latest message of the user: contained, or found by the pattern. */
        prompt: textPattern.optional(),
        /** The id of the caller's message: equal, or found by the pattern. */
        messageId: textPattern.optional(),
        /** Any one of the results the tools have just given: contained, found by the pattern, or by its fields. */
        toolResult: z
          .union([z.string().min(1), regexSchema, toolResultSchema], {
            error: `${patternForm}, or {tool, output, isError}`,
          })
          .optional(),
        /** The number of the model call within its task, from 1. */
        turn: z.int().min(1).optional(),
        /** The whole request, by its digest. */
        request: z.strictObject({ system: digest, messages: digest, tools: digest, settings: digest }).optional(),
      })
      .optional(),
    text: z
      .union([z.string(), z.array(chunkSchema).max(MAX_CHUNKS)], {
        error: "must be a text or a list of texts",
      })
      .optional(),
    /** Waited before every chunk, and once before a turn that has no text. */
    delayMs: delayMs.optional(),
    toolCalls: z
      .array(z.strictObject({ name: z.string().min(1), input: z.json().optional() }))
      .max(MAX_TOOL_CALLS)
      .optional(),
    /** Comes after the text: an HTTP status, a stream cut off without an end, or one that never goes on. */
    error: z
      .union(
        [
          z.strictObject({
            status: z.int().min(400).max(599),
            retryAfterSeconds: z.number().min(0).max(86_400).optional(),
          }),
          z.literal("cut"),
          z.literal("hang"),
        ],
        { error: "must be {status: 400 to 599, retryAfterSeconds}, cut or hang" },
      )
      .optional(),
    usage: z
      .strictObject({
        inputTokens: tokens.optional(),
        outputTokens: tokens.optional(),
        cachedInputTokens: tokens.optional(),
      })
      .optional(),
    finishReason: z.enum(["stop", "tool_calls", "length", "content_filter"]).optional(),
  })
  .refine(
    (turn) => turn.text !== undefined || turn.toolCalls !== undefined || turn.error !== undefined,
    "says nothing: give it text, toolCalls or error",
  );

export const scriptSchema = z.strictObject({ turns: z.array(turnSchema).min(1).max(MAX_TURNS) });

export type ScriptTurn = z.infer<typeof turnSchema>;
export type TextPattern = z.infer<typeof textPattern>;
