import { expect, test } from "vitest";
import { readPiece, splitChunk } from "./artifact-piece.ts";

const chunkOf = (...parts: readonly { readonly [key: string]: string | object }[]) => ({
  artifactId: "a",
  parts: JSON.parse(JSON.stringify(parts)),
  append: false,
  lastChunk: true,
});

const stringOf = (value: unknown): string => (typeof value === "string" ? value : "");

test("a small chunk is left as it is", () => {
  const chunk = chunkOf({ text: "hello" }, { raw: "aGVsbG8=" }, { data: { a: 1 } });
  expect(splitChunk(chunk)).toEqual([chunk]);
});

test("a large text falls into pieces that give it back, never cutting a character in two", () => {
  const text = `x${"🔑".repeat(100_000)}`;
  const pieces = splitChunk(chunkOf({ text: "before" }, { text, mediaType: "text/markdown", filename: "n.md" }));
  expect(pieces.length).toBeGreaterThan(3);
  expect(pieces.map(({ append, lastChunk }) => [append, lastChunk])).toEqual(
    pieces.map((_each, index) => [index > 0, index === pieces.length - 1]),
  );
  const read = pieces.slice(1).map(({ parts }) => readPiece(parts[0]));
  expect(read.map(({ position }) => position)).toEqual(["first", ...read.slice(2).map(() => "next"), "last"]);
  expect(read[0]?.part).toMatchObject({ mediaType: "text/markdown", filename: "n.md" });
  expect(read.every(({ part }) => part.metadata === undefined)).toBe(true);
  for (const { part } of read) expect(part.text).toBe(Buffer.from(stringOf(part.text)).toString());
  expect(read.map(({ part }) => stringOf(part.text)).join("")).toBe(text);
});

test("base64 falls into pieces that can be decoded one by one, line breaks or not", () => {
  const bytes = Buffer.from(Array.from({ length: 200_001 }, (_each, index) => (index * 7) % 256));
  const lines = bytes.toString("base64").replace(/.{76}/g, "$&\n");
  const pieces = splitChunk(chunkOf({ raw: lines, metadata: { own: "kept" } }));
  const read = pieces.map(({ parts }) => readPiece(parts[0]));
  expect(Buffer.concat(read.map(({ part }) => Buffer.from(stringOf(part.raw), "base64"))).equals(bytes)).toBe(true);
  expect(read[0]?.part.metadata).toEqual({ own: "kept" });
});
