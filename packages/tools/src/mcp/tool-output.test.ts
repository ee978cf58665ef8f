import { describe, expect, test } from "vitest";
import { toolOutcome } from "./tool-output.ts";

const limits = { maxOutputBytes: 20, maxMediaBytes: 8 };

describe("what a tool gives back", () => {
  test("keeps its types", () => {
    const outcome = toolOutcome(
      {
        content: [
          { type: "text", text: "hello" },
          { type: "image", mimeType: "image/png", data: "AAAA" },
          { type: "resource", resource: { uri: "file:///a", text: "b" } },
        ],
        structuredContent: { a: 1 },
      },
      limits,
    );
    expect(outcome).toEqual({
      content: [
        { type: "text", text: "hello" },
        { type: "image", mediaType: "image/png", base64: "AAAA" },
        { type: "resource", uri: "file:///a", text: "b" },
      ],
      structured: { a: 1 },
      isError: false,
    });
  });

  test("is cut at its limit between characters, over all its pieces, and says how much is missing", () => {
    const content = [
      { type: "text" as const, text: "0123456789" },
      { type: "text" as const, text: "012345678ä more" },
    ];
    const [first, second] = toolOutcome({ content, isError: true }, limits).content;
    expect(first).toEqual({ type: "text", text: "0123456789" });
    expect(second).toEqual({ type: "text", text: "012345678\n[7 more bytes were left out]" });
  });

  test("has a sentence in place of an image or of structured content that is too large", () => {
    const outcome = toolOutcome(
      {
        content: [{ type: "image", mimeType: "image/png", data: "AAAABBBBCCCC" }],
        structuredContent: { text: "x".repeat(100) },
      },
      limits,
    );
    expect(outcome.structured).toBeUndefined();
    expect(outcome.content.map((each) => each.type)).toEqual(["text", "text"]);
  });
});
