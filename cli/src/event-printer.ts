import type { RecordedEvent } from "@shaman/runs";
import { cost, safe, textOfMessage, textOfParts } from "./run-text.ts";

const stepLine = ({ position, ...step }: Extract<RecordedEvent, { type: "step" }>["payload"]): string => {
  const used =
    step.inputTokens === undefined
      ? undefined
      : `${step.inputTokens} tokens in, ${step.outputTokens ?? 0} out${step.costUsd === null ? "" : `, ${cost(step.costUsd ?? 0)}`}`;
  const name = step.kind === "model" ? (step.model ?? step.name) : step.name;
  return [`step ${position}`, step.kind, name, step.state, used].filter((part) => part !== undefined).join("  ");
};

type Notice = Extract<RecordedEvent, { type: "notice" }>["payload"];

const noticeLine = (notice: Notice): string => {
  const total = notice.total === undefined ? "" : ` of ${notice.total}`;
  const progress = notice.progress === undefined ? undefined : `${notice.progress}${total}`;
  return [notice.tool, notice.kind, notice.level, progress, notice.message]
    .filter((part) => part !== undefined)
    .join("  ");
};

/**
 * Prints a run's events for people: streamed text as it comes, everything else on a line of its own that begins with an
 * arrow. What is wrong with an agent's tools as a whole is told once, though every attempt meets it again.
 */
export const createEventPrinter = (out: (text: string) => void): ((event: RecordedEvent) => void) => {
  let inText = false;
  const toldProblems = new Set<string>();
  const line = (text: string): void => {
    out(`${inText ? "\n" : ""}→ ${safe(text).replaceAll("\n", " ")}\n`);
    inText = false;
  };
  const write = (text: string): void => {
    if (text === "") return;
    out(safe(text));
    inText = !text.endsWith("\n");
  };
  const notice = (given: Notice): void => {
    if (given.kind === "problem" && given.position === undefined) {
      const problem = noticeLine(given);
      if (toldProblems.has(problem)) return;
      toldProblems.add(problem);
    }
    if (given.kind !== "text") return line(noticeLine(given));
    if (given.append !== true) line([given.tool, given.artifact].filter((part) => part !== undefined).join("  "));
    write(given.message ?? "");
  };
  return (event) => {
    switch (event.type) {
      case "task.artifact": {
        const { payload } = event;
        if (!payload.append) line(payload.name ?? "answer");
        write(textOfParts(payload.parts));
        return;
      }
      case "task.status": {
        const message = textOfMessage(event.payload.message);
        line(message === "" ? event.payload.state : `${event.payload.state}: ${message}`);
        return;
      }
      case "step":
        line(stepLine(event.payload));
        return;
      case "notice":
        notice(event.payload);
        return;
      case "data":
        line(`${event.payload.agent} shares ${event.payload.name}`);
        return;
      case "run.retry":
        line(`try ${event.payload.attempt} failed (${event.payload.message}), again at ${event.payload.retryAt}`);
    }
  };
};
