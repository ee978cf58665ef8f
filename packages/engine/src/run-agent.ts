import { hash } from "node:crypto";
import { PLATFORM_TOOLS, renderPrompt, type AgentDefinition } from "@shaman/agents";
import { abortAfter, AppError, publicMessageOf, toAppError, type Json, type JsonObject } from "@shaman/kernel";
import {
  isRetryableModelError,
  modelStepUsage,
  type Model,
  type ModelMessage,
  type ModelNotes,
  type ModelUsage,
  type ToolCall,
  type ToolResult,
} from "@shaman/llm";
import { parsedJson, parsedJsonObject, responseArtifactId, type StepRecord } from "@shaman/runs";
import { PLATFORM_TOOL_SPECS, runPlatformTool } from "@shaman/tools";
import { z } from "zod";
import { createMeter, limitReached, type Budget } from "./budget.ts";
import type { EngineEvent, Failure, LimitName } from "./engine-event.ts";
import { messageText } from "./message-text.ts";
import { judgeOutput, outputArtifact, outputSchemaOf, withdrawnArtifact } from "./structured-output.ts";

export type EngineDeps = {
  readonly model: Model;
  /** USD, or null where the model's price is not known. */
  readonly costUsd: (usage: ModelUsage, model: string) => number | null;
  /** Resolves once the step at this position is committed, and rejects when the signal is aborted first. */
  readonly whenRecorded: (position: number, signal: AbortSignal) => Promise<void>;
};

export type RunAgentInput = {
  readonly definition: AgentDefinition;
  /** `provider/model`, aliases resolved. */
  readonly modelName: string;
  /** The A2A Message that the task answers. */
  readonly message: JsonObject;
  /** Earlier exchanges of the context, oldest first, for agents with `memory: context`. */
  readonly memory: readonly { readonly prompt: string; readonly answer: string }[];
  /** What earlier attempts recorded, in order. */
  readonly recorded: readonly StepRecord[];
  readonly budget: Budget;
  /** Milliseconds since 1970. */
  readonly deadline: number;
  readonly signal: AbortSignal;
};

const modelOutput = z.object({
  text: z.string(),
  toolCalls: z.array(z.object({ id: z.string(), name: z.string(), input: parsedJson })),
  finishReason: z.string(),
});
type ModelOutput = { readonly text: string; readonly toolCalls: readonly ToolCall[]; readonly finishReason: string };

const toolOutput = z.object({ text: z.string(), isError: z.boolean() });

type State = {
  readonly deps: EngineDeps;
  readonly input: RunAgentInput;
  readonly recorded: ReadonlyMap<number, StepRecord>;
  readonly meter: ReturnType<typeof createMeter>;
  readonly messages: ModelMessage[];
  readonly signal: AbortSignal;
  position: number;
  turn: number;
  repairs: number;
};

/** Ends the run as failed; thrown inside the loop only, so that every depth of it can stop. */
class RunFailed extends Error {
  readonly failure: Failure;
  constructor(failure: Failure) {
    super(failure.message);
    this.failure = failure;
  }
}

/** The run waits for its caller; thrown inside the loop only. */
class InputRequired extends Error {
  readonly question: string;
  constructor(question: string) {
    super(question);
    this.question = question;
  }
}

/**
 * Runs one task of an agent: model, tools, model, until the model has nothing more to call. Steps that are recorded are
 * replayed and their results fed, never done again; the first open one is where it goes on. Emits text as it comes.
 */
export async function* runAgent(deps: EngineDeps, input: RunAgentInput): AsyncGenerator<EngineEvent, void, undefined> {
  const deadline = abortAfter(input.deadline - Date.now(), input.signal);
  const state: State = {
    deps,
    input,
    recorded: new Map(input.recorded.map((step) => [step.position, step])),
    meter: createMeter(input.budget),
    messages: openingMessages(input),
    signal: deadline.signal,
    position: 0,
    turn: 0,
    repairs: 0,
  };
  try {
    for (;;) {
      const answer = yield* modelStep(state);
      if (answer.finishReason === "content_filter") throw new RunFailed(contentFiltered());
      if (answer.toolCalls.length > 0) yield* toolSteps(state, answer.toolCalls);
      else if (yield* settleOutput(state, answer)) break;
    }
    yield { type: "completed" };
  } catch (error) {
    if (error instanceof InputRequired) yield { type: "input_required", question: error.question };
    else if (deadline.timedOut() && !input.signal.aborted) {
      yield { type: "failed", failure: limitReached("timeoutSeconds") };
    } else if (error instanceof RunFailed) yield { type: "failed", failure: error.failure };
    else if (input.signal.aborted) throw error;
    else yield { type: "failed", failure: failureOf(error) };
  } finally {
    deadline.clear();
  }
}

/** Whether the answer is the task's result; if it is not, the conversation now asks the model to mend it. */
async function* settleOutput(state: State, answer: ModelOutput): AsyncGenerator<EngineEvent, boolean, undefined> {
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

const openingMessages = ({ definition, message, memory }: RunAgentInput): ModelMessage[] => {
  const prompt = messageText(message);
  const messages: ModelMessage[] = [{ role: "system", text: renderPrompt(definition, prompt) }];
  for (const earlier of memory) {
    messages.push({ role: "user", text: earlier.prompt }, { role: "assistant", text: earlier.answer, toolCalls: [] });
  }
  messages.push({ role: "user", text: prompt });
  return messages;
};

async function* modelStep(state: State): AsyncGenerator<EngineEvent, ModelOutput, undefined> {
  const { input } = state;
  state.position += 1;
  state.turn += 1;
  const { position } = state;
  const name = input.modelName;
  const inputHash = hashOf([name, input.definition.temperature ?? null, input.definition.tools, state.messages]);
  const done = replayed(state, { kind: "model", inputHash });
  if (done !== undefined) {
    state.meter.replayedModel();
    return remember(state, modelOutput.parse(done.output));
  }
  refuse(state.meter.beforeModel());
  // Were a second model call under way while the first is not recorded, one crash could cost two calls.
  if (position > 1 && !state.recorded.has(position - 1)) await state.deps.whenRecorded(position - 1, state.signal);
  const output = yield* callModel(state, responseArtifactId(position));
  const { usage, notes, ...answer } = output;
  yield {
    type: "step",
    step: { position, kind: "model", name, inputHash, state: "done", output: toJson(answer, notes), usage },
  };
  state.meter.afterModel(usage);
  return remember(state, answer);
}

async function* callModel(state: State, artifactId: string) {
  const { deps, input, signal } = state;
  const { definition } = input;
  const outputSchema = outputSchemaOf(definition.output);
  let append = false;
  const request = {
    model: input.modelName,
    messages: state.messages,
    tools: definition.tools.map((tool) => PLATFORM_TOOL_SPECS[tool]),
    turn: state.turn,
    messageId: typeof input.message.messageId === "string" ? input.message.messageId : "",
    signal,
    ...(outputSchema !== undefined && { outputSchema }),
    ...(definition.temperature !== undefined && { temperature: definition.temperature }),
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

const remember = (state: State, answer: ModelOutput): ModelOutput => {
  state.messages.push({ role: "assistant", text: answer.text, toolCalls: answer.toolCalls });
  return answer;
};

async function* toolSteps(state: State, calls: readonly ToolCall[]): AsyncGenerator<EngineEvent, void, undefined> {
  const results: ToolResult[] = [];
  refuse(state.meter.beforeTools(calls.length));
  for (const call of calls) {
    state.signal.throwIfAborted();
    state.position += 1;
    const { text, isError } = yield* toolStep(state, call);
    results.push({ toolCallId: call.id, toolName: call.name, output: text, isError });
  }
  state.messages.push({ role: "tool", results });
}

async function* toolStep(state: State, call: ToolCall) {
  const { position } = state;
  const inputHash = hashOf([call.name, call.input]);
  const kind = call.name === "request_input" ? "input" : "tool";
  const step = { position, kind, name: call.name, inputHash, input: call.input } as const;
  const done = replayed(state, { kind, inputHash });
  if (done !== undefined) return kind === "input" ? answered(done.output) : toolOutput.parse(done.output);

  const finish = (text: string, isError: boolean) => ({ text, isError });
  const tool = state.input.definition.tools.find((allowed) => allowed === call.name);
  const outcome = tool === undefined ? undefined : runPlatformTool(tool, call.input);
  if (outcome?.ok === true && outcome.value.kind === "question") {
    if (!state.recorded.has(position)) {
      yield { type: "step", step: { ...step, state: "started" } } satisfies EngineEvent;
    }
    throw new InputRequired(outcome.value.question);
  }
  if (outcome?.ok === true && outcome.value.kind === "artifact") {
    const { artifact, text } = outcome.value;
    const chunk = {
      ...artifact,
      parts: [...artifact.parts],
      artifactId: `artifact-${position}`,
      append: false,
      lastChunk: true,
    };
    yield { type: "artifact", chunk } satisfies EngineEvent;
    const output = finish(text, false);
    yield { type: "step", step: { ...step, state: "done", output } } satisfies EngineEvent;
    return output;
  }
  // A wrong call of request_input asks nobody, so nothing waits: it is told to the model like any other tool error.
  const output = finish(outcome?.ok === false ? outcome.error.message : noSuchTool(call.name, state), true);
  yield { type: "step", step: { ...step, state: "failed", output } } satisfies EngineEvent;
  return output;
}

const noSuchTool = (name: string, state: State): string => {
  const { tools } = state.input.definition;
  const known = PLATFORM_TOOLS.some((tool) => tool === name);
  const why = known ? "This agent may not use it" : "There is no such tool";
  return `${why}: ${name}. Tools of this agent: ${tools.length === 0 ? "none" : tools.join(", ")}.`;
};

/** The recorded step at this position, when it is done; diverging from it would make a replay something else. */
const replayed = (
  state: State,
  expected: { readonly kind: string; readonly inputHash: string },
): StepRecord | undefined => {
  const step = state.recorded.get(state.position);
  if (step === undefined) return undefined;
  if (step.kind !== expected.kind || step.inputHash !== expected.inputHash) {
    throw new RunFailed({
      code: "replay_diverged",
      message: `Step ${state.position} was recorded as ${step.kind} ${step.name}, and the same task came to another one now`,
      publicMessage: "The run could not be continued after an interruption. Send the message again as a new task.",
      retryable: false,
    });
  }
  return step.state === "started" ? undefined : step;
};

const answered = (output: Json | undefined): { readonly text: string; readonly isError: boolean } => {
  const asTool = toolOutput.safeParse(output);
  if (asTool.success) return asTool.data;
  const message = parsedJsonObject.parse(output);
  return { text: `The caller answered: ${messageText(message)}`, isError: false };
};

const refuse = (limit: LimitName | undefined): void => {
  if (limit !== undefined) throw new RunFailed(limitReached(limit));
};

const hashOf = (value: unknown): string => hash("sha256", JSON.stringify(value), "base64url");

const toJson = (value: ModelOutput, notes: ModelNotes | undefined): Json => ({
  text: value.text,
  toolCalls: value.toolCalls.map(({ id, name, input }) => ({ id, name, input })),
  finishReason: value.finishReason,
  ...(notes !== undefined && { notes: parsedJsonObject.parse(notes) }),
});

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
