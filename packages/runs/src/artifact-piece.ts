import type { JsonObject } from "@shaman/kernel";
import { isPlainText } from "./artifacts.ts";

/**
 * In a part's metadata while it travels from the internal server to the worker: this part is a piece of a larger one,
 * its first, one between, or its last. The recorder puts the pieces together; nobody else sees them.
 */
const PIECE = "urn:shaman:a2a:piece:v1";

export type PiecePosition = "first" | "next" | "last";

const POSITIONS: readonly PiecePosition[] = ["first", "next", "last"];

/** Also a multiple of 4, so that base64 falls apart into pieces that can be decoded alone. */
const PIECE_CHARS = 64 * 1024;

/** The value if it is a JSON object. */
export const objectOf = (value: unknown): JsonObject | undefined =>
  // What JSON held is an object of JSON values once it is neither null nor a list.
  typeof value === "object" && value !== null && !Array.isArray(value) ? (value as JsonObject) : undefined;

/** The part without the mark, and what the mark says. */
export const readPiece = (part: JsonObject): { readonly part: JsonObject; readonly position?: PiecePosition } => {
  const metadata = objectOf(part.metadata);
  const position = POSITIONS.find((one) => one === metadata?.[PIECE]);
  if (metadata === undefined || position === undefined) return { part };
  const { [PIECE]: _mark, ...others } = metadata;
  const { metadata: _metadata, ...bare } = part;
  return { part: Object.keys(others).length === 0 ? bare : { ...bare, metadata: others }, position };
};

/** Where a text may be cut no later than at `end`: never between the two halves of one character. */
const cutOf = (text: string, end: number): number => {
  if (end >= text.length) return text.length;
  const last = text.charCodeAt(end - 1);
  return last >= 0xd800 && last <= 0xdbff ? end - 1 : end;
};

const piecesOf = (part: JsonObject, isStreamed: boolean): readonly JsonObject[] => {
  const name = typeof part.text === "string" ? "text" : "raw";
  const content = part[name];
  if (typeof content !== "string" || content.length <= PIECE_CHARS) return [part];
  // Line breaks in base64 mean nothing, and would move the places where it may be cut.
  const whole = name === "raw" ? content.replace(/\s+/g, "") : content;
  const pieces: JsonObject[] = [];
  for (let from = 0; from < whole.length;) {
    const to = cutOf(whole, from + PIECE_CHARS);
    const position: PiecePosition = from === 0 ? "first" : to === whole.length ? "last" : "next";
    const piece = whole.slice(from, to);
    from = to;
    if (isStreamed && isPlainText(part)) {
      // Streamed text is put together anyway, and readers get it as it comes.
      pieces.push({ ...part, text: piece });
      continue;
    }
    const { metadata, ...bare } = part;
    // Only the first piece carries what else the part says.
    const rest = position === "first" ? { ...bare, metadata: { ...objectOf(metadata), [PIECE]: position } } : {};
    pieces.push({ metadata: { [PIECE]: position }, ...rest, [name]: piece });
  }
  return pieces;
};

/**
 * A chunk of an artifact as chunks that are small enough to be sent and received one by one. Most are given back as they
 * are.
 */
export const splitChunk = <
  C extends { readonly parts: readonly JsonObject[]; readonly append: boolean; readonly lastChunk: boolean },
>(
  chunk: C,
): readonly C[] => {
  const isStreamed = chunk.append || !chunk.lastChunk;
  const pieces = chunk.parts.flatMap((part) => piecesOf(part, isStreamed));
  if (pieces.length === chunk.parts.length) return [chunk];
  return pieces.map((part, index) => ({
    ...chunk,
    parts: [part],
    append: index === 0 ? chunk.append : true,
    lastChunk: chunk.lastChunk && index === pieces.length - 1,
  }));
};
