import type { JsonObject } from "@shaman/kernel";
import type { RunView } from "@shaman/runs";

/** The state as people should read it: what a waiting run waits for. */
export const stateOf = (run: RunView): string => {
  if (run.state === "suspended") return `waits for ${run.suspendedOn ?? "a person"}`;
  return run.wakeAt !== null && run.attempts > 0 ? `${run.state}, try ${run.attempts + 1}` : run.state;
};

/** Who began it: the key by its name, else the user. */
export const beganBy = (run: Pick<RunView, "apiKeyName" | "userName" | "principal">): string =>
  run.apiKeyName ?? run.userName ?? run.principal;

export const tokensOf = (run: { readonly inputTokens: number; readonly outputTokens: number }): number =>
  run.inputTokens + run.outputTokens;

/** Dollars, with as many digits as a cheap call needs; undefined where no price is known. */
export const cost = (usd: number | null): string | undefined => {
  if (usd === null) return undefined;
  return usd === 0 ? "$0" : `$${usd.toFixed(usd < 0.1 ? 5 : 2)}`;
};

/** The text of A2A Parts; what is no text has a line of its own, and is named by its kind. */
export const textOfParts = (parts: readonly unknown[]): string =>
  parts.map((part, i) => (i > 0 && !(isText(part) && isText(parts[i - 1])) ? "\n" : "") + textOfPart(part)).join("");

const isText = (part: unknown): boolean => typeof part === "object" && part !== null && "text" in part;

const textOfPart = (part: unknown): string => {
  if (typeof part !== "object" || part === null) return "";
  if ("text" in part && typeof part.text === "string") return part.text;
  if ("data" in part) return JSON.stringify(part.data);
  if ("url" in part && typeof part.url === "string") return `[${part.url}]`;
  if (!("raw" in part) || typeof part.raw !== "string") return "";
  const type = "mediaType" in part && typeof part.mediaType === "string" ? part.mediaType : "file";
  return `[${type}, ${Buffer.byteLength(part.raw, "base64")} bytes]`;
};

export const textOfMessage = (message: JsonObject | undefined): string =>
  Array.isArray(message?.["parts"]) ? textOfParts(message["parts"]) : "";

/** Foreign text for a terminal: without control characters, but with its lines. */
// oxlint-disable-next-line no-control-regex -- they are exactly what is taken out
export const safe = (text: string): string => text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, "");
