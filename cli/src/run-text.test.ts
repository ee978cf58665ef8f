import { expect, test } from "vitest";
import { textOfParts } from "./run-text.ts";

test("texts of a message follow each other as they are, everything else stands on a line of its own", () => {
  const parts = [
    { text: "It " },
    { text: "waits." },
    { data: { id: 1 } },
    { raw: "AAAA", mediaType: "image/png" },
    { text: "End" },
  ];
  expect(textOfParts(parts)).toBe('It waits.\n{"id":1}\n[image/png, 3 bytes]\nEnd');
});
