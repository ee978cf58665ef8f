import type { RecordedEvent } from "@shaman/runs";
import { expect, test } from "vitest";
import { createEventPrinter } from "./event-printer.ts";

const at = { seq: 1, taskId: "task_1" };
const text = (message: string, append: boolean): RecordedEvent => ({
  ...at,
  type: "notice",
  payload: { kind: "text", position: 2, tool: "Partner", artifact: "answer.txt", message, append },
});

test("a problem with an agent's tools is printed once, that of a step for each step", () => {
  let out = "";
  const print = createEventPrinter((piece) => (out += piece));
  const problem = (taskId: string, message: string, position?: number): RecordedEvent => ({
    seq: 1,
    taskId,
    type: "notice",
    payload: { kind: "problem", message, ...(position !== undefined && { position, tool: "mail__send" }) },
  });
  print(problem("task_1", "mail is away"));
  print(problem("task_1", "far is away"));
  print(problem("task_2", "mail is away"));
  print(problem("task_1", "mail is away"));
  print(problem("task_1", "it hung up", 2));
  print(problem("task_1", "it hung up", 3));
  expect(out).toBe(
    "→ problem  mail is away\n→ problem  far is away\n→ mail__send  problem  it hung up\n→ mail__send  problem  it hung up\n",
  );
});

test("text of an outside agent is printed as it comes, below who writes it, and without what moves a cursor", () => {
  let out = "";
  const print = createEventPrinter((piece) => (out += piece));
  print(text("One ", false));
  print(text("moment\u001b[2J", true));
  print({ ...at, type: "notice", payload: { kind: "log", tool: "Partner", level: "info", message: "completed" } });
  expect(out).toBe("→ Partner  answer.txt\nOne moment[2J\n→ Partner  log  info  completed\n");
});
