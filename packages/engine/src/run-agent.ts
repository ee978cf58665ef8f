import { renderPrompt } from "@shaman/agents";
import { abortAfter, AppError, publicMessageOf, toAppError, type Json } from "@shaman/kernel";
import {
  billedStepUsage,
  billedUsageOf,
  isRetryableModelError,
  leastTokens,
  modelStepUsage,
  withoutContent,
  type ModelMessage,
  type ModelNotes,
  type ToolCall,
  type ToolSpec,
} from "@shaman/llm";
import { parsedJson, parsedJsonObject, responseArtifactId, type StepUsage } from "@shaman/runs";
import { callAgentSpec, PLATFORM_TOOL_SPECS, type Tool, type ToolSet } from "@shaman/tools";
import { z } from "zod";
import { createMeter, limitReached, refuse, type NextCall } from "./budget.ts";
import type { EngineEvent, Failure, Suspension } from "./engine-event.ts";
import { createMediaRoom, messageFiles, type MessageFiles } from "./media.ts";
import { messageText } from "./message-text.ts";
import { BrokenOff, RunFailed, RunSuspended } from "./run-failed.ts";
import {
  hashOf,
  recordedAt,
  tell,
  tellProblems,
  untilCommitted,
  type EngineDeps,
  type Events,
  type RunAgentInput,
  type RunState,
} from "./run-state.ts";
import { judgeOutput, outputArtifact, outputSchemaOf, withdrawnArtifact } from "./structured-output.ts";
import { toolSteps } from "./tool-steps.ts";
import { capText } from "./tool-text.ts";

const modelOutput = z.object({
  text: z.string(),
  toolCalls: z.array(z.object({ id: z.string(), name: z.string(), input: parsedJson })),
  finishReason: z.string(),
});
type ModelOutput = { readonly text: string; readonly toolCalls: readonly ToolCall[]; readonly finishReason: string };

/** An answer travels to the worker and into its step in one piece. */
const MAX_ANSWER_BYTES = 14_000_000;

/**
 * Runs one task of an agent: model, tools, model, until the model has nothing more to call. Steps that are recorded are
 * replayed and their results fed, never done again; the first open one is where it goes on. Emits text as it comes.
 * Throws when the attempt is aborted or broken off: then it has no end, and another attempt goes on.
 */
export async function* runAgent(deps: EngineDeps, input: RunAgentInput): Events {
  const deadline = abortAfter(input.deadline - Date.now(), input.signal);
  const meter = createMeter(input.budget);
  let toolSet: ToolSet | undefined;
  try {
    toolSet = await deps.openTools(input.definition, deadline.signal);
    const { tools, problems } = usableTools(input, toolSet);
    yield* tellProblems(problems);
    const files = messageFiles(input.message);
    // An attempt after this one finds a step, and need not say it again.
    if (input.recorded.length === 0) yield* tellProblems(files.problems);
    const state: RunState = {
      deps,
      input,
      recorded: new Map(input.recorded.map((step) => [step.position, step])),
      meter,
      room: createMediaRoom(),
      messages: openingMessages(input, files),
      tools,
      signal: deadline.signal,
      written: new Map(),
      asking: new Map(),
      position: 0,
      turn: 0,
      repairs: 0,
      untold: undefined,
    };
    const answer = yield* conversation(state);
    yield input.parent === undefined
      ? { type: "completed" }
      : { type: "completed", result: { text: resultText(state, answer), left: meter.left() } };
  } catch (error) {
    if (error instanceof BrokenOff) throw error.cause;
    if (error instanceof RunSuspended) yield suspended(input, error.suspension);
    else if (deadline.timedOut() && !input.signal.aborted) yield failed(limitReached("timeoutSeconds"));
    else if (error instanceof RunFailed) yield failed(error.failure);
    else if (input.signal.aborted) throw error;
    else yield failed(failureOf(error));
  } finally {
    deadline.clear();
    // Servers that cannot be closed in order are closed when they are idle; the run has its end either way.
    await toolSet?.close().catch(() => undefined);
  }

  function failed(failure: Failure): EngineEvent {
    if (input.parent === undefined) return { type: "failed", failure };
    if (mayPass(input, failure)) return { type: "retry_later", failure };
    return { type: "failed", failure, left: meter.left() };
  }
}

/** Whether the whole run should go on later instead of the caller being told of a failure. */
const mayPass = ({ parent, deadline }: RunAgentInput, failure: Failure): boolean => {
  if (!failure.retryable || parent === undefined) return false;
  if (failure.retryAfterMs !== undefined) return Date.now() + failure.retryAfterMs < deadline;
  return parent.attemptsLeft > 0;
};

const suspended = ({ parent }: RunAgentInput, suspension: Suspension): EngineEvent => {
  if (suspension.kind === "person") {
    return { type: "input_required", waitsFor: suspension.waitsFor, parts: suspension.parts };
  }
  const { failure } = suspension;
  return parent === undefined ? { type: "failed", failure } : { type: "retry_later", failure };
};

/** The tools by name. One with a name of the platform's own is left out: the model could not tell them apart. */
const usableTools = (
  { definition }: RunAgentInput,
  set: ToolSet,
): { readonly tools: ReadonlyMap<string, Tool>; readonly problems: readonly string[] } => {
  const own = new Set<string>([...Object.keys(PLATFORM_TOOL_SPECS), "call_agent"]);
  const tools = new Map<string, Tool>();
  const problems = [...set.problems];
  for (const tool of set.tools) {
    const { name } = tool.spec;
    if (!own.has(name) && !tools.has(name)) tools.set(name, tool);
    else problems.push(`The tool ${name} is not offered to ${definition.name}: its name is taken.`);
  }
  return { tools, problems };
};

/** Whether the answer is the task's result; if it is not, the conversation now asks the model to mend it. */
async function* settleOutput(state: RunState, answer: ModelOutput): Events<boolean> {
  const verdict = judgeOutput(state.input.definition.output, { text: answer.text, repairs: state.repairs });
  switch (verdict.kind) {
    case "free":
      return true;
    case "fits":
      yield { type: "artifact", chunk: outputArtifact(state.position, verdict.value) };
      return true;
    case "invalid":
      throw new RunFailed(verdict.failure);
    case "repair":
      state.repairs += 1;
      yield { type: "artifact", chunk: withdrawnArtifact(responseArtifactId(state.position)) };
      state.messages.push(verdict.message);
      return false;
  }
}

const openingMessages = ({ definition, message, memory }: RunAgentInput, { media }: MessageFiles): ModelMessage[] => {
  const prompt = messageText(message);
  const messages: ModelMessage[] = [{ role: "system", text: renderPrompt(definition, prompt) }];
  for (const earlier of memory) {
    messages.push({ role: "user", text: earlier.prompt }, { role: "assistant", text: earlier.answer, toolCalls: [] });
  }
  messages.push({ role: "user", text: prompt, ...(media.length > 0 && { media }) });
  return messages;
};

/** Gives the model's last answer: the one after which there was nothing more to call. */
async function* conversation(state: RunState): Events<ModelOutput> {
  for (;;) {
    const answer = yield* modelStep(state);
    if (answer.finishReason === "content_filter") throw new RunFailed(contentFiltered());
    if (answer.toolCalls.length > 0) yield* toolSteps(state, answer.toolCalls);
    else if (yield* settleOutput(state, answer)) return answer;
  }
}

async function* modelStep(state: RunState): Events<ModelOutput> {
  const { input } = state;
  state.position += 1;
  state.turn += 1;
  const { position } = state;
  const name = input.modelName;
  const inputHash = modelInputHash(state);
  const done = recordedAt(state, { position, kind: "model", inputHash });
  if (done !== undefined) {
    state.meter.replayedModel();
    return remember(state, modelOutput.parse(done.output));
  }
  refuse(state.meter.beforeModel(nextCall(state)));
  yield* untilCommitted(state, state.signal);
  const { usage, notes, ...answer } = yield* paidFor(state, callModel(state, responseArtifactId(position)));
  if (Buffer.byteLength(JSON.stringify(answer)) > MAX_ANSWER_BYTES) {
    yield* pay(state, [usage]);
    throw new RunFailed(answerTooLarge());
  }
  yield tell(state, { position, kind: "model", name, inputHash, state: "done", output: toJson(answer, notes), usage });
  state.meter.afterModel(usage);
  return remember(state, answer);
}

const nextCall = ({ messages, deps, input }: RunState): NextCall => ({
  inputTokens: leastTokens(messages),
  costUsd: (usage) => deps.costUsd(usage, input.modelName),
});

/**
 * What a model step is recognized by: what the run's commit and its record decide, and nothing that may be another thing
 * at the next attempt. So the model's name is the one in the agent's file, whatever the organization means by it now;
 * tools of servers are left out, which can be reached or not; and so is what is remembered of earlier tasks, which
 * retention takes away.
 */
const modelInputHash = ({ input, messages }: RunState): string => {
  const { model, temperature, tools } = input.definition;
  return hashOf([
    model ?? null,
    temperature ?? null,
    tools,
    messages.toSpliced(1, 2 * input.memory.length).map(withoutContent),
  ]);
};

/** Passes the call on; where it fails, what it cost all the same is told first. */
async function* paidFor<R>(state: RunState, call: Events<R>): Events<R> {
  try {
    return yield* call;
  } catch (error) {
    yield* pay(state, billedStepUsage(billedUsageOf(error), state.deps.costUsd));
    throw error;
  }
}

/** Counts and tells what was used for a step that there will be no record of. */
async function* pay({ meter, position }: RunState, usages: readonly StepUsage[]): Events {
  for (const usage of usages) {
    meter.afterFailedModel(usage);
    yield { type: "usage", position, usage };
  }
}

const toolSpecs = ({ deps, input, tools }: RunState): readonly ToolSpec[] => [
  ...input.definition.tools.map((tool) => PLATFORM_TOOL_SPECS[tool]),
  ...(deps.calls.listed.length > 0 ? [callAgentSpec(deps.calls.listed)] : []),
  ...[...tools.values()].map(({ spec }) => spec),
];

async function* callModel(state: RunState, artifactId: string) {
  const { deps, input, signal } = state;
  const { definition } = input;
  const maxOutputTokens = state.meter.maxOutputTokens(nextCall(state));
  const outputSchema = outputSchemaOf(definition.output);
  let append = false;
  const request = {
    model: input.modelName,
    messages: state.messages,
    tools: toolSpecs(state),
    turn: state.turn,
    messageId: typeof input.message.messageId === "string" ? input.message.messageId : "",
    signal,
    ...(outputSchema !== undefined && { outputSchema }),
    ...(definition.temperature !== undefined && { temperature: definition.temperature }),
    ...(maxOutputTokens !== undefined && { maxOutputTokens }),
  };
  for await (const event of deps.model.stream(request)) {
    if (event.type === "text") {
      yield textChunk({ artifactId, text: event.text, append, lastChunk: false });
      append = true;
      continue;
    }
    // The answer is complete only now; the empty text says so without repeating it.
    if (append) yield textChunk({ artifactId, text: "", append: true, lastChunk: true });
    const { text, toolCalls, finishReason, notes } = event;
    return { text, toolCalls, finishReason, notes, usage: modelStepUsage(event, deps.costUsd) };
  }
  throw new AppError({
    code: "model_unavailable",
    kind: "operational",
    message: "The model's answer ended before it was complete",
  });
}

const textChunk = (chunk: {
  readonly artifactId: string;
  readonly text: string;
  readonly append: boolean;
  readonly lastChunk: boolean;
}): EngineEvent => ({
  type: "artifact",
  chunk: {
    artifactId: chunk.artifactId,
    name: "response",
    parts: [{ text: chunk.text }],
    append: chunk.append,
    lastChunk: chunk.lastChunk,
  },
});

const remember = (state: RunState, answer: ModelOutput): ModelOutput => {
  state.messages.push({ role: "assistant", text: answer.text, toolCalls: answer.toolCalls });
  return answer;
};

/** What a calling agent gets: the last answer, then what was handed over as artifacts. */
const resultText = ({ input, written }: RunState, answer: ModelOutput): string =>
  capText(
    [answer.text, ...[...written].toSorted(([a], [b]) => a - b).map(([, text]) => text)]
      .filter((text) => text !== "")
      .join("\n\n"),
    input.toolOutputBytes,
  );

const toJson = (value: ModelOutput, notes: ModelNotes | undefined): Json => ({
  text: value.text,
  toolCalls: value.toolCalls.map(({ id, name, input }) => ({ id, name, input })),
  finishReason: value.finishReason,
  ...(notes !== undefined && { notes: parsedJsonObject.parse(notes) }),
});

const answerTooLarge = (): Failure => {
  const message = `The model's answer is larger than ${MAX_ANSWER_BYTES} bytes. Have the agent write large content in several steps.`;
  return { code: "model_answer_too_large", message, publicMessage: message, retryable: false };
};

const contentFiltered = (): Failure => {
  const message = "The model's provider filtered the answer.";
  return { code: "content_filtered", message, publicMessage: message, retryable: false };
};

const failureOf = (thrown: unknown): Failure => {
  const error = toAppError(thrown);
  return {
    code: error.code,
    message: error.message,
    publicMessage: publicMessageOf(error),
    retryable: isRetryableModelError(error) || error.kind === "operational",
    ...(error.retryAfterMs !== undefined && { retryAfterMs: error.retryAfterMs }),
  };
};
