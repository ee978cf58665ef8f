import type { JsonObject } from "@shaman/kernel";

/** What a caller's message says, as text for a model: texts as they are, data as JSON, files by name. */
export const messageText = (message: JsonObject): string => {
  const parts = Array.isArray(message.parts) ? message.parts : [];
  return parts.map(partText).join("\n");
};

const partText = (part: unknown): string => {
  if (typeof part !== "object" || part === null) return "";
  if ("text" in part && typeof part.text === "string") return part.text;
  if ("data" in part) return JSON.stringify(part.data);
  const name = "filename" in part && typeof part.filename === "string" ? part.filename : "without a name";
  return "url" in part && typeof part.url === "string" ? `[file ${name} at ${part.url}]` : `[file ${name}]`;
};
