import type { Json } from "@shaman/kernel";

/** Values a turn may quote: `prompt` and the named captures of its patterns. */
export type Captures = ReadonlyMap<string, string>;

/** Something to be rendered with captures; each is replaced once, and what it brings in is never expanded again. */
export type Template<T> = (captures: Captures) => T;

const PLACEHOLDER = /\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}/g;

/** The names quoted in `text`, in order. */
export const placeholdersOf = (text: string): readonly string[] =>
  [...text.matchAll(PLACEHOLDER)].flatMap((match) => match[1] ?? []);

export const textTemplate = (text: string): Template<string> => {
  const parts = text.split(PLACEHOLDER);
  if (parts.length === 1) return () => text;
  // With one group in the pattern, split gives literal, name, literal, name, … literal.
  return (captures) => {
    let rendered = "";
    for (const [index, part] of parts.entries()) {
      rendered += index % 2 === 0 ? part : (captures.get(part) ?? "");
    }
    return rendered;
  };
};

/** Renders every text inside a JSON value; keys stay as they are. */
export const jsonTemplate = (value: Json): Template<Json> => {
  if (typeof value === "string") return textTemplate(value);
  if (value === null || typeof value !== "object") return () => value;
  if (textsIn(value).every((text) => placeholdersOf(text).length === 0)) return () => value;
  if (Array.isArray(value)) {
    const items = value.map(jsonTemplate);
    return (captures) => items.map((item) => item(captures));
  }
  const fields = Object.entries(value).map(([key, field]) => [key, jsonTemplate(field)] as const);
  return (captures) => Object.fromEntries(fields.map(([key, field]) => [key, field(captures)]));
};

/** Every text inside a JSON value. */
export const textsIn = (value: Json): readonly string[] => {
  if (typeof value === "string") return [value];
  if (value === null || typeof value !== "object") return [];
  return Object.values(value).flatMap(textsIn);
};
