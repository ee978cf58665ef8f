import { expect, test } from "vitest";

import { createLineSplitter, LineTooLong } from "./line-splitter.ts";

const linesOf = (pieces: readonly string[], maxBytes = 100): readonly string[] => {
  const splitter = createLineSplitter(maxBytes);
  return pieces.flatMap((piece) => [...splitter.push(Buffer.from(piece))]);
};

test("lines come out whole however they are cut, with either line end", () => {
  expect(linesOf(["a\nb", "c\r\n", "\n", "d"])).toEqual(["a", "bc", ""]);
  const euro = Buffer.from("€\n");
  const splitter = createLineSplitter(10);
  expect([...splitter.push(euro.subarray(0, 1)), ...splitter.push(euro.subarray(1))]).toEqual(["€"]);
});

test("a line at the limit passes, and one byte more is refused before its end comes", () => {
  expect(linesOf(["x".repeat(100), "\n", "y\n"])).toEqual(["x".repeat(100), "y"]);
  expect(() => linesOf(["x".repeat(60), "x".repeat(41)])).toThrow(LineTooLong);
  expect(() => linesOf([`${"x".repeat(101)}\n`])).toThrow(LineTooLong);
});
