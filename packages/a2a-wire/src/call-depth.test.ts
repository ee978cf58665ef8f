import { expect, test } from "vitest";
import { allowedCallDepth, callDepthMetadata } from "./call-depth.ts";
import { writeMessage, writeMessageOld, writeMessageOldProto } from "./outside/write-message.ts";

test("how deep a message's receiver may go is said in every dialect, and read by our own servers", () => {
  const message = { messageId: "m", parts: [{ text: "go" }], metadata: callDepthMetadata(3) };
  for (const write of [writeMessage, writeMessageOld, writeMessageOldProto]) {
    expect(allowedCallDepth(write(message), 5)).toBe(3);
    expect(allowedCallDepth(write(message), 2)).toBe(2);
  }
});

test("whoever says nothing of it, or something else, is held to the agent's own limits", () => {
  const uri = Object.keys(callDepthMetadata(1))[0] ?? "";
  for (const metadata of [undefined, {}, { [uri]: 3 }, { [uri]: { maxDepth: -1 } }, { [uri]: { maxDepth: "3" } }]) {
    expect(allowedCallDepth({ messageId: "m", ...(metadata !== undefined && { metadata }) }, 5)).toBe(5);
  }
});
