import { setTimeout as delay } from "node:timers/promises";

import { userError, type AppError, type Json } from "@shaman/kernel";

import { modelAborted, modelErrorOfStatus, modelUnavailable } from "../model-error.ts";
import type { Model, ModelEvent, ModelRequest, ToolCall } from "../model-port.ts";
import { digestOf } from "../request-digest.ts";
import {
  DIGEST_PARTS,
  parseScript,
  type Asked,
  type Captures,
  type RequestDigest,
  type Script,
  type Turn,
} from "@shaman/scripts";

const MAX_CACHED_SCRIPTS = 500;
const MAX_QUOTED_CHARS = 300;
const MAX_LISTED_TURNS = 20;

/** Parsing depends on the text alone, so that one memory serves every organization of the process. */
const parsedScripts = new Map<string, Script>();

const scriptOf = (text: string, fileName: string): Script => {
  const known = parsedScripts.get(text);
  if (known) return known;
  const parsed = parseScript(text, fileName);
  if (!parsed.ok) {
    const problems = parsed.error.map((problem) => `${problem.file}:${problem.line} ${problem.message}`);
    throw userError("model_script_invalid", `The script of this agent cannot be used: ${problems.join("; ")}`, {
      problems: parsed.error,
    });
  }
  if (parsedScripts.size >= MAX_CACHED_SCRIPTS) {
    const [oldest] = parsedScripts.keys();
    if (oldest !== undefined) parsedScripts.delete(oldest);
  }
  parsedScripts.set(text, parsed.value);
  return parsed.value;
};

const quote = (text: string): string =>
  JSON.stringify(text.length > MAX_QUOTED_CHARS ? `${text.slice(0, MAX_QUOTED_CHARS)}…` : text);

const PART_NAMES: Record<keyof RequestDigest, string> = {
  system: "instructions",
  messages: "messages or tool results",
  tools: "tools",
  settings: "temperature or output schema",
};

/** Of a script that was recorded, the turn that has most in common with the request, and what it has not. */
const nearestRecorded = (asked: Asked, script: Script) => {
  const request = asked.request?.();
  if (request === undefined) return undefined;
  return script.turns
    .flatMap(({ line, request: wanted }) => {
      if (wanted === undefined) return [];
      const differs = DIGEST_PARTS.filter((part) => wanted[part] !== request[part]).map((part) => PART_NAMES[part]);
      return [{ line, differs }];
    })
    .toSorted((a, b) => a.differs.length - b.differs.length)[0];
};

const noMatch = (asked: Asked, script: Script, fileName: string): AppError => {
  const recorded = nearestRecorded(asked, script);
  if (recorded !== undefined) {
    return userError(
      "model_script_no_match",
      `${fileName} is a recording, and nothing in it answers call ${asked.turn} of message ${quote(asked.messageId)}, prompt ` +
        `${quote(asked.prompt)}. The nearest recorded turn (line ${recorded.line}) was asked with other ${recorded.differs.join(", ")}. ` +
        "Record it anew: ./shaman model record <run>",
      { file: fileName, turn: asked.turn, differs: recorded.differs },
    );
  }
  const results = asked.toolResults.map((result) => `${result.toolName} gave ${quote(result.output)}`);
  const turns = script.turns.slice(0, MAX_LISTED_TURNS).map((turn) => `line ${turn.line}: ${turn.summary}`);
  const more = script.turns.length - turns.length;
  return userError(
    "model_script_no_match",
    `No turn of ${fileName} answers call ${asked.turn} of message ${quote(asked.messageId)}, prompt ${quote(asked.prompt)}` +
      `${results.length > 0 ? `, where ${results.join(", ")}` : ""}. ` +
      `Its turns match ${turns.join("; ")}${more > 0 ? `; and ${more} more` : ""}. Add a turn that matches.`,
    { file: fileName, turn: asked.turn },
  );
};

const pause = async (delayMs: number, signal: AbortSignal): Promise<void> => {
  try {
    await delay(delayMs, undefined, { signal });
  } catch (cause) {
    throw modelAborted(cause);
  }
};

const untilAborted = (signal: AbortSignal): Promise<never> =>
  new Promise((_resolve, reject) => {
    const abort = (): void => reject(modelAborted(signal.reason));
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort, { once: true });
  });

/** Ends a turn that has an error in the way its author asked for. */
const fail = async (error: NonNullable<Turn["error"]>, request: ModelRequest): Promise<never> => {
  if (error === "hang") return untilAborted(request.signal);
  if (error === "cut") throw modelUnavailable(`${request.model}: the stream ended before the answer was complete.`);
  throw modelErrorOfStatus({
    model: request.model,
    status: error.status,
    reason: "as its script says",
    ...(error.retryAfterSeconds === undefined ? {} : { retryAfterMs: Math.round(error.retryAfterSeconds * 1000) }),
  });
};

/** Ids depend on the place alone, so that a replayed call carries the same ones. */
const toolCallsOf = (turn: Turn, captures: Captures, number: number): readonly ToolCall[] =>
  turn.toolCalls.map((call, index) => {
    const input: Json = call.input(captures);
    return { id: `call_${number}_${index + 1}`, name: call.name, input };
  });

async function* play(script: Script, fileName: string, request: ModelRequest): AsyncGenerator<ModelEvent> {
  const { signal } = request;
  if (signal.aborted) throw modelAborted(signal.reason);
  const asked = askedBy(request);
  const captures = new Map<string, string>();
  const turn = script.turns.find((candidate) => {
    captures.clear();
    return candidate.matches(asked, captures);
  });
  if (!turn) throw noMatch(asked, script, fileName);
  captures.set("prompt", asked.prompt);

  let text = "";
  if (turn.silentDelayMs > 0) await pause(turn.silentDelayMs, signal);
  for (const chunk of turn.chunks) {
    if (chunk.delayMs > 0) await pause(chunk.delayMs, signal);
    else if (signal.aborted) throw modelAborted(signal.reason);
    const piece = chunk.text(captures);
    if (piece === "") continue;
    text += piece;
    yield { type: "text", text: piece };
  }
  if (turn.error !== undefined) await fail(turn.error, request);
  yield {
    type: "done",
    text,
    toolCalls: toolCallsOf(turn, captures, request.turn),
    usage: turn.usage,
    finishReason: turn.finishReason,
    model: request.model,
  };
}

/**
 * A model that plays a script: no key, no network, the same answers every time. `script` is the text of the YAML file
 * (parsed once per text), `fileName` its name in messages.
 * Throws `model_script_invalid` for a text that `parseScript` refuses; its stream throws `model_script_no_match` when no
 * turn answers, and otherwise what the script says.
 */
export const createScriptedModel = (source: { readonly script: string; readonly fileName: string }): Model => {
  const script = scriptOf(source.script, source.fileName);
  return { stream: (request) => play(script, source.fileName, request) };
};

const once = <T extends object>(make: () => T): (() => T) => {
  let made: T | undefined;
  return () => (made ??= make());
};

/** What a request asks: the latest words of the user, or the agent's own prompt where there are none. */
const askedBy = (request: ModelRequest): Asked => {
  const { messages, messageId, turn } = request;
  const last = messages.at(-1);
  const user = messages.findLast((message) => message.role === "user");
  const system = messages.find((message) => message.role === "system");
  return {
    prompt: user?.text ?? system?.text ?? "",
    messageId,
    turn,
    toolResults: last?.role === "tool" ? last.results : [],
    request: once(() => digestOf(request)),
  };
};
