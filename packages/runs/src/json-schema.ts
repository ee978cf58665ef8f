import type { Json, JsonObject } from "@shaman/kernel";
import { z } from "zod";

/**
 * For values that come out of JSON.parse: they are JSON already, so that only their outermost shape is looked at. Walking
 * through every answer of a model again costs more than the rest of its parsing.
 */
export const parsedJson = z.custom<Json>((value) => value !== undefined, "must be JSON");

export const parsedJsonObject = z.custom<JsonObject>(
  (value) => typeof value === "object" && value !== null && !Array.isArray(value),
  "must be a JSON object",
);

/** The value of a JSON text. */
export const parsedJsonText = z.string().transform((text, context): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    context.addIssue("is not JSON");
    return z.NEVER;
  }
});
