import { isJsonObject, toAppError, type JsonObject } from "@shaman/kernel";
import type { Tool, ToolOutcome } from "@shaman/tools";
import type { NoticePayload, StepRecord } from "@shaman/runs";
import { z } from "zod";
import { createNoticePipe } from "./notice-pipe.ts";
import { readOutcome } from "./read-outcome.ts";
import { BrokenOff } from "./run-failed.ts";
import {
  hashOf,
  recordedAt,
  tell,
  toolOutput,
  untilCommitted,
  type Events,
  type PlannedCall,
  type RunState,
  type StepEnd,
} from "./run-state.ts";
import { capText, markAsData } from "./tool-text.ts";

/** The step itself holds what its media are; their content is kept beside it. */
const outsideOutput = toolOutput.extend({
  media: z.array(z.object({ mediaType: z.string(), sha256: z.string(), bytes: z.int() })).default([]),
});

/**
 * Calls a tool of an MCP server. One that is not safe to repeat is on record as started, under the lease, before it
 * runs; found so after an interruption, nobody knows what it did, and it is not called again (guarantee 3).
 */
export async function* outsideToolStep(state: RunState, plan: PlannedCall, tool: Tool | undefined): Events<StepEnd> {
  const { call, position, signal } = plan;
  const inputHash = hashOf([call.name, call.input]);
  const server = tool?.server;
  const step = {
    position,
    kind: "tool",
    name: call.name,
    inputHash,
    input: call.input,
    ...(server !== undefined && { server }),
  } as const;
  const recorded = recordedAt(state, { position, kind: "tool", inputHash });
  if (recorded !== undefined && recorded.state !== "started") {
    return recalledResult(state, recorded);
  }
  if (tool === undefined || (recorded !== undefined && !tool.repeatable)) {
    return yield* end(state, { ...step, state: "unknown" }, unknownOutcome(call.name));
  }
  if (!isJsonObject(call.input)) {
    return yield* end(state, { ...step, state: "failed" }, `The input of ${call.name} must be a JSON object.`);
  }
  if (!tool.repeatable) {
    yield* untilCommitted(state, signal);
    await state.deps.startStep(step).catch((error: unknown) => {
      throw new BrokenOff(error);
    });
    yield tell(state, { ...step, state: "started" });
  }
  const startedAt = Date.now();
  const outcome = yield* run(plan, tool, call.input);
  const durationMs = Math.max(0, Date.now() - startedAt);
  if ("fault" in outcome) {
    const told = tool.repeatable ? `The tool ${call.name} failed on our side.` : unknownOutcome(call.name);
    return yield* end(state, { ...step, state: tool.repeatable ? "failed" : "unknown", durationMs }, told);
  }
  return yield* conclude(state, { ...step, state: outcome.isError ? "failed" : "done", durationMs }, outcome);
}

/** Records what the tool gave, its media beside the step, and gives it to the model. */
async function* conclude(state: RunState, step: StepRecord, outcome: ToolOutcome): Events<StepEnd> {
  const { text, media } = readOutcome(outcome, state.room);
  const told = markAsData(`the tool ${step.name}`, capText(text, state.input.toolOutputBytes));
  const output = { text: told, isError: outcome.isError };
  if (media.length === 0) {
    yield tell(state, { ...step, output });
    return { kind: "result", ...output };
  }
  const about = media.map(({ mediaType, sha256, base64 }) => ({
    mediaType,
    sha256,
    bytes: Buffer.byteLength(base64, "base64"),
  }));
  const contents = media.map(({ sha256, base64 }) => ({ sha256, base64 }));
  yield tell(state, { ...step, output: { ...output, media: about }, media: contents });
  return { kind: "result", ...output, media };
}

/** A recorded result with its media: the model's next step may have been asked with exactly these. */
export const recalledResult = ({ room }: RunState, { output, media: contents = [] }: StepRecord): StepEnd => {
  const { media: about, ...told } = outsideOutput.parse(output);
  const media = about.flatMap(({ mediaType, sha256, bytes }) => {
    room.take(bytes);
    const content = contents.find((one) => one.sha256 === sha256);
    return content === undefined ? [] : [{ mediaType, ...content }];
  });
  return { kind: "result", ...told, ...(media.length > 0 && { media }) };
};

const unknownOutcome = (name: string): string =>
  `The call of ${name} was interrupted, and its outcome is unknown: it may or may not have happened. It was not repeated. Find out before you call it again.`;

async function* end(state: RunState, step: StepRecord, text: string): Events<StepEnd> {
  const output = { text, isError: true };
  yield tell(state, { ...step, output });
  return { kind: "result", ...output };
}

/** Runs the tool and passes on what it tells meanwhile. A fault of ours ends the call, not the run. */
async function* run(
  plan: PlannedCall,
  tool: Tool,
  input: JsonObject,
): Events<ToolOutcome | { readonly fault: string }> {
  const { signal, position, call } = plan;
  const about = { position, tool: call.name, ...(tool.server !== undefined && { server: tool.server }) };
  const pipe = createNoticePipe();
  const running = tool.run(input, { signal, notice: pipe.push }).then(
    (outcome) => ({ outcome }),
    (error: unknown) => ({ error }),
  );
  void running.then(pipe.close);
  for await (const notice of pipe.notices()) yield { type: "notice", notice: { ...about, ...notice } };
  const ended = await running;
  if ("outcome" in ended) return ended.outcome;
  signal.throwIfAborted();
  const fault = toAppError(ended.error).message;
  const notice: NoticePayload = { ...about, kind: "problem", message: fault.slice(0, 500) };
  yield { type: "notice", notice };
  return { fault };
}
