import type { PlatformTool } from "@shaman/agents";
import { contentHash, parsedJsonObject } from "@shaman/runs";
import type { Json, JsonObject } from "@shaman/kernel";
import { runPlatformTool, type PlatformOutcome } from "@shaman/tools";
import { messageFiles, type MessageFiles } from "./media.ts";
import { messageText } from "./message-text.ts";
import {
  hashOf,
  recordedAt,
  tell,
  tellProblems,
  toolOutput,
  type Events,
  type PlannedCall,
  type RunState,
  type StepEnd,
} from "./run-state.ts";
import { markAsData } from "./tool-text.ts";

/** Runs one of the platform's own tools. All of them are safe to repeat, so they are recorded when done. */
export async function* platformStep(state: RunState, plan: PlannedCall, tool: PlatformTool): Events<StepEnd> {
  const { call, position } = plan;
  const kind = tool === "request_input" ? "input" : "tool";
  const inputHash = hashOf([call.name, call.input]);
  const step = { position, kind, name: call.name, inputHash, input: recordedInput(call.input) } as const;
  const recorded = recordedAt(state, { position, kind, inputHash });
  const outcome = runPlatformTool(tool, call.input);
  if (outcome.ok && outcome.value.kind === "artifact") state.written.set(position, artifactText(outcome.value));
  if (recorded !== undefined && recorded.state !== "started") {
    if (kind !== "input") return { kind: "result", ...toolOutput.parse(recorded.output) };
    const { problems, ...answer } = answered(recorded.output);
    const isNews = !state.input.recorded.some((later) => later.kind === "model" && later.position > position);
    if (isNews) yield* tellProblems(problems);
    return { kind: "result", ...answer };
  }
  // A wrong call of request_input asks nobody, so nothing waits: it is told to the model like any other tool error.
  const result = outcome.ok ? yield* act(state, plan, outcome.value) : failed(outcome.error.message);
  if (result.kind === "suspended") {
    if (recorded === undefined) yield tell(state, { ...step, state: "started" });
    return result;
  }
  const { text, isError } = result;
  yield tell(state, { ...step, state: isError ? "failed" : "done", output: { text, isError } });
  return result;
}

const MAX_RECORDED_CHARS = 64_000;

/**
 * What a step keeps of its input, for people to read: the model's own step has all of it, and replay takes it from there.
 */
const recordedInput = (input: Json): Json => {
  const fields = parsedJsonObject.safeParse(input);
  const content = fields.data?.content;
  if (typeof content !== "string" || content.length <= MAX_RECORDED_CHARS) return input;
  const beginning = content.slice(0, MAX_RECORDED_CHARS).toWellFormed();
  return { ...fields.data, content: `${beginning} … (${content.length} characters in all)` };
};

const done = (text: string) => ({ kind: "result", text, isError: false }) as const;
const failed = (text: string) => ({ kind: "result", text, isError: true }) as const;

async function* act(state: RunState, plan: PlannedCall, outcome: PlatformOutcome): Events<StepEnd> {
  const { position } = plan;
  switch (outcome.kind) {
    case "question": {
      const waitsFor = { kind: "input", taskId: state.input.taskId, position } as const;
      return { kind: "suspended", suspension: { kind: "person", waitsFor, parts: [{ text: outcome.question }] } };
    }
    case "artifact": {
      const { artifact, text } = outcome;
      const parts = [...artifact.parts];
      const chunk = { ...artifact, parts, artifactId: `artifact-${position}`, append: false, lastChunk: true };
      yield { type: "artifact", chunk };
      return done(text);
    }
    case "share":
      return yield* share(state, plan, outcome);
    case "recall":
      return recall(state, outcome.name);
  }
}

const MAX_SHARED_VALUES = 100;

/**
 * Shares a value. It counts as written once it is committed and is ours: of agents that write one name at the same time,
 * one succeeds and the others are told whose value there is.
 */
async function* share(
  state: RunState,
  { position, signal }: PlannedCall,
  { name, value }: { readonly name: string; readonly value: Json },
): Events<StepEnd> {
  const { shared } = state.deps;
  let written = await shared.find(name);
  if (written === undefined) {
    if ((await shared.list()).length >= MAX_SHARED_VALUES) {
      return failed(`This run shares ${MAX_SHARED_VALUES} values already, which is as many as it may.`);
    }
    yield { type: "data", position, name, value };
    written = await shared.whenShared(name, signal);
  }
  if (contentHash({ value: written.value }) === contentHash({ value })) return done(`The value ${name} is shared.`);
  return failed(
    `${written.agent} has shared another value as ${name} before, and values never change. Use another name, or read it.`,
  );
}

const recall = async (state: RunState, name: string | undefined): Promise<StepEnd> => {
  const { shared } = state.deps;
  if (name === undefined) {
    const all = await shared.list();
    return done(
      all.length === 0 ? "No value is shared yet." : all.map((one) => `${one.name}, by ${one.agent}`).join("\n"),
    );
  }
  const value = await shared.find(name);
  if (value === undefined) return failed(`No value is shared as ${name}. Leave the name out to see which there are.`);
  return done(markAsData(`the agent ${value.agent} as ${name}`, JSON.stringify(value.value)));
};

type Answer = Omit<Extract<StepEnd, { kind: "result" }>, "kind"> & Pick<MessageFiles, "problems">;

const answered = (output: Json | undefined): Answer => {
  const asTool = toolOutput.safeParse(output);
  if (asTool.success) return { ...asTool.data, problems: [] };
  const message = parsedJsonObject.parse(output);
  const { media, problems } = messageFiles(message);
  const text = `The caller answered: ${messageText(message)}`;
  return { text, isError: false, problems, ...(media.length > 0 && { media }) };
};

const artifactText = ({ artifact }: Extract<PlatformOutcome, { kind: "artifact" }>): string =>
  `[artifact ${artifact.name}]\n${messageText({ parts: artifact.parts.map((part): JsonObject => part) })}`;
