import { hash } from "node:crypto";

import { canonicalJson } from "@shaman/kernel";
import type { RequestDigest } from "@shaman/scripts";

import { withoutContent } from "./media.ts";
import type { Model, ModelEvent, ModelMessage, ModelRequest } from "./model-port.ts";

const DIGEST_CHARS = 22;

const digest = (value: unknown): string => hash("sha256", canonicalJson(value), "base64url").slice(0, DIGEST_CHARS);

/** Calls by their place in the conversation: a provider makes up new ids each time, and they mean nothing else. */
const withPlacesForIds = (messages: readonly ModelMessage[]): readonly unknown[] => {
  const places = new Map<string, number>();
  const placeOf = (id: string): number => {
    const known = places.get(id);
    if (known !== undefined) return known;
    places.set(id, places.size + 1);
    return places.size;
  };
  return messages.map((message) => {
    switch (message.role) {
      case "assistant":
        return { ...message, toolCalls: message.toolCalls.map((call) => ({ ...call, id: placeOf(call.id) })) };
      case "tool":
        return {
          ...message,
          results: message.results.map((result) => ({ ...result, toolCallId: placeOf(result.toolCallId) })),
        };
      case "system":
      case "user":
        return message;
    }
  });
};

/**
 * The digest of a request: equal for requests that ask the same, of whatever model and in whatever task. The model's name is
 * no part of it, nor how long the answer may be: that follows from what is left of a run's budget, and a whole answer is
 * whole under any limit.
 */
export const digestOf = (request: ModelRequest): RequestDigest => ({
  system: digest(request.messages.filter((message) => message.role === "system")),
  messages: digest(
    withPlacesForIds(request.messages.filter((message) => message.role !== "system").map(withoutContent)),
  ),
  tools: digest(request.tools),
  settings: digest([request.temperature ?? null, request.outputSchema ?? null]),
});

async function* answer(model: Model, request: ModelRequest): AsyncGenerator<ModelEvent> {
  for await (const event of model.stream(request)) {
    yield event.type === "done" ? { ...event, notes: { ...event.notes, request: digestOf(request) } } : event;
  }
}

/** The same model, whose answers say what they answer: with that, a run can be made a recording afterwards. */
export const withRequestDigest = (model: Model): Model => ({ stream: (request) => answer(model, request) });
