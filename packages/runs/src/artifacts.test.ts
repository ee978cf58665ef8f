import { describe, expect, test } from "vitest";
import { foldArtifacts } from "./artifacts.ts";
import type { RunEvent } from "./events.ts";

const chunk = (artifactId: string, text: string, flags: { append: boolean; lastChunk: boolean }): RunEvent => ({
  type: "task.artifact",
  payload: { artifactId, name: "response", parts: [{ text }], ...flags },
});
const FIRST = { append: false, lastChunk: false };
const MORE = { append: true, lastChunk: false };
const LAST = { append: true, lastChunk: true };

describe("the artifacts that events add up to", () => {
  test("hold streamed text as one part", () => {
    const events = [chunk("response-1", "Hel", FIRST), chunk("response-1", "lo", MORE), chunk("response-1", "", LAST)];
    expect(foldArtifacts(events)).toEqual([{ artifactId: "response-1", name: "response", parts: [{ text: "Hello" }] }]);
  });

  test("hold only the newer words of a step that was done again", () => {
    const events = [
      chunk("response-1", "Good mor", FIRST),
      chunk("response-1", "Good evening", FIRST),
      chunk("response-1", "", LAST),
    ];
    expect(foldArtifacts(events)).toMatchObject([{ parts: [{ text: "Good evening" }] }]);
  });

  test("leave out what an interrupted attempt began and the next one withdrew", () => {
    const events = [
      chunk("response-1", "Kept", FIRST),
      chunk("response-3", "Never fin", FIRST),
      chunk("response-3", "", { append: false, lastChunk: true }),
    ];
    expect(foldArtifacts(events).map(({ artifactId }) => artifactId)).toEqual(["response-1"]);
  });
});
