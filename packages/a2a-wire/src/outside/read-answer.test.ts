import { AppError } from "@shaman/kernel";
import { describe, expect, test } from "vitest";
import { readEvent, readTask } from "./read-answer.ts";

const codeOf = (act: () => unknown): string => {
  try {
    act();
    return "ok";
  } catch (error) {
    return error instanceof AppError ? error.code : String(error);
  }
};

describe("an outside agent's answer", () => {
  test("means the same in 1.0's JSON, in 0.3's, and in 0.3's proto in either spelling", () => {
    const parts = [{ text: "hi" }, { raw: "aGk=", mediaType: "image/png", filename: "a.png" }, { data: { n: 1 } }];
    const current = readEvent(
      {
        task: {
          id: "t",
          contextId: "c",
          status: { state: "TASK_STATE_INPUT_REQUIRED", message: { messageId: "m", role: "ROLE_AGENT", parts } },
          artifacts: [{ artifactId: "a", name: "n", parts }],
        },
      },
      "1.0",
    );
    const oldParts = [
      { kind: "text", text: "hi" },
      { kind: "file", file: { bytes: "aGk=", mimeType: "image/png", name: "a.png" } },
      { kind: "data", data: { n: 1 } },
    ];
    const old = readEvent(
      {
        kind: "task",
        id: "t",
        contextId: "c",
        status: {
          state: "input-required",
          message: { kind: "message", messageId: "m", role: "agent", parts: oldParts },
        },
        artifacts: [{ artifactId: "a", name: "n", parts: oldParts }],
      },
      "0.3",
    );
    expect(old).toEqual(current);
    const protoParts = [
      { text: "hi" },
      { file: { file_with_bytes: "aGk=", mime_type: "image/png", name: "a.png" } },
      { data: { data: { n: 1 } } },
    ];
    const proto = readEvent(
      {
        task: {
          id: "t",
          context_id: "c",
          status: {
            state: "TASK_STATE_INPUT_REQUIRED",
            update: { message_id: "m", role: "ROLE_AGENT", content: protoParts },
          },
          artifacts: [{ artifact_id: "a", name: "n", parts: protoParts }],
        },
      },
      "0.3",
    );
    expect(proto).toEqual(current);
  });

  test("keeps data of 1.0 as it is, though 0.3's proto would unwrap it", () => {
    const message = { messageId: "m", role: "ROLE_AGENT", parts: [{ data: { data: { n: 1 } } }, { data: null }] };
    const event = readEvent({ message }, "1.0");
    expect(event).toMatchObject({ message: { parts: [{ data: { data: { n: 1 } } }, { data: null }] } });
  });

  test("reads updates, canceled in both spellings, and takes an unknown state as working", () => {
    const update = (state: unknown) =>
      readEvent({ statusUpdate: { taskId: "t", contextId: "c", status: { state } } }, "1.0");
    expect(update("TASK_STATE_CANCELLED")).toMatchObject({ status: { state: "canceled" } });
    expect(update("TASK_STATE_CANCELED")).toMatchObject({ status: { state: "canceled" } });
    expect(update("TASK_STATE_DREAMING")).toMatchObject({ status: { state: "working" } });
    const chunk = { taskId: "t", artifact: { artifactId: "a", parts: [] }, append: true, last_chunk: true };
    expect(readEvent({ artifact_update: chunk }, "1.0")).toMatchObject({ append: true, lastChunk: true });
  });

  test.each([
    ["nothing", undefined],
    ["no object", "task"],
    ["no member", {}],
    ["two members", { task: { id: "t", status: { state: "x" } }, message: { messageId: "m", parts: [] } }],
    ["an unknown kind", { kind: "surprise" }],
    ["a task without an id", { task: { status: { state: "TASK_STATE_WORKING" } } }],
    ["a task without a status", { task: { id: "t" } }],
    ["an id with a line end", { task: { id: "t\n", status: { state: "TASK_STATE_WORKING" } } }],
    ["a message without an id", { message: { parts: [] } }],
    ["a part without content", { message: { messageId: "m", parts: [{}] } }],
    ["a part with two contents", { message: { messageId: "m", parts: [{ text: "a", url: "b" }] } }],
    ["bytes that are not base64", { message: { messageId: "m", parts: [{ raw: "%%" }] } }],
    ["parts that are no list", { message: { messageId: "m", parts: "x" } }],
  ])("with %s is refused", (_why, value) => {
    expect(codeOf(() => readEvent(value, "1.0"))).toBe("external_answer_invalid");
  });

  test("with more lists than anybody needs is too large", () => {
    const artifacts = Array.from({ length: 1_001 }, (_, n) => ({ artifactId: String(n), parts: [] }));
    const task = { id: "t", status: { state: "TASK_STATE_WORKING" }, artifacts };
    expect(codeOf(() => readTask(task, "1.0"))).toBe("external_answer_too_large");
  });
});
