import { err, issueWords, ok, type Json, type Result } from "@shaman/kernel";
import { isNode, LineCounter, parseDocument, type Document } from "yaml";

import type { RequestDigest } from "./asked.ts";
import { compileMatch, compilePattern, type Matcher } from "./matcher.ts";
import { scriptSchema, type ScriptTurn } from "./script-schema.ts";
import { jsonTemplate, placeholdersOf, textsIn, textTemplate, type Template } from "./template.ts";

/** Something wrong in a file that an author wrote; `line` counts from 1. */
export type Problem = { readonly file: string; readonly line: number; readonly message: string };

export type Chunk = { readonly text: Template<string>; readonly delayMs: number };

type Usage = { readonly inputTokens: number; readonly outputTokens: number; readonly cachedInputTokens: number };

/** One turn, ready to run. */
export type Turn = {
  readonly line: number;
  /** The turn's conditions as the author wrote them, for messages. */
  readonly summary: string;
  readonly matches: Matcher;
  /** The request that a recorded turn answers. */
  readonly request: RequestDigest | undefined;
  readonly chunks: readonly Chunk[];
  /** Waited once before a turn without text. */
  readonly silentDelayMs: number;
  readonly toolCalls: readonly { readonly name: string; readonly input: Template<Json> }[];
  readonly error: ScriptTurn["error"];
  readonly usage: Usage;
  readonly finishReason: "stop" | "tool_calls" | "length" | "content_filter";
};

export type Script = { readonly turns: readonly Turn[] };

const MAX_SCRIPT_BYTES = 64 * 1024;
const MAX_ALIASES = 20;
/** Instructions of all patterns of one script together: the work of one request stays bounded. */
const MAX_PROGRAM = 4_000;
const MAX_PROBLEMS = 20;

type Path = readonly PropertyKey[];

/** The line of the innermost node on `path` that exists. */
const lineOf = (document: Document, lines: LineCounter, path: Path): number => {
  for (let length = path.length; length >= 0; length -= 1) {
    const node: unknown = length === 0 ? document.contents : document.getIn(path.slice(0, length), true);
    if (isNode(node) && node.range) return lines.linePos(node.range[0]).line;
  }
  return 1;
};

const nameOf = (path: Path): string =>
  path
    .map((part) => (typeof part === "number" ? `[${part}]` : `.${String(part)}`))
    .join("")
    .replace(/^\./, "");

/** The patterns of a turn with their places in the file. */
const patternsOf = (turn: ScriptTurn): readonly { readonly path: Path; readonly regex: string }[] => {
  const match = turn.match;
  const result = match?.toolResult;
  const places: readonly (readonly [Path, unknown])[] = [
    [["match", "prompt"], match?.prompt],
    [["match", "messageId"], match?.messageId],
    [["match", "toolResult"], result],
    [["match", "toolResult", "output"], typeof result === "object" && "output" in result ? result.output : undefined],
  ];
  return places.flatMap(([path, value]) =>
    typeof value === "object" && value !== null && "regex" in value && typeof value.regex === "string"
      ? [{ path: [...path, "regex"], regex: value.regex }]
      : [],
  );
};

type Checked = {
  readonly problems: readonly { readonly path: Path; readonly message: string }[];
  readonly program: number;
};

/** What zod cannot see: patterns that are none, and quotes of captures that no pattern of the turn makes. */
const checkTurn = (turn: ScriptTurn, at: Path): Checked => {
  const problems: { path: Path; message: string }[] = [];
  const known = new Set(["prompt"]);
  let program = 0;
  for (const { path, regex } of patternsOf(turn)) {
    const compiled = compilePattern(regex);
    if (typeof compiled === "string") problems.push({ path: [...at, ...path], message: compiled });
    else {
      program += compiled.programSize();
      for (const name of Object.keys(compiled.namedGroups())) known.add(name);
    }
  }
  const quote = (path: Path, texts: readonly string[]): void => {
    const unknown = texts.flatMap(placeholdersOf).find((name) => !known.has(name));
    if (unknown === undefined) return;
    const names = [...known].map((name) => `{{${name}}}`).join(", ");
    problems.push({ path: [...at, ...path], message: `quotes {{${unknown}}}, but this turn only has ${names}` });
  };
  // What a model once wrote is no template, whatever it looks like.
  if (turn.match?.request !== undefined) return { problems, program };
  const texts = typeof turn.text === "string" ? [turn.text] : (turn.text ?? []);
  quote(
    ["text"],
    texts.map((chunk) => (typeof chunk === "string" ? chunk : chunk.text)),
  );
  for (const [index, call] of (turn.toolCalls ?? []).entries()) {
    quote(["toolCalls", index, "input"], textsIn(call.input ?? null));
  }
  return { problems, program };
};

const summaryOf = (match: ScriptTurn["match"]): string =>
  match === undefined || Object.keys(match).length === 0
    ? "anything"
    : Object.entries(match)
        .map(([key, value]) => `${key} ${JSON.stringify(value)}`)
        .join(" and ");

const literal =
  <T>(value: T): Template<T> =>
  () =>
    value;

const compileTurn = (turn: ScriptTurn, line: number): Turn => {
  const request = turn.match?.request;
  const [ofText, ofJson] = request === undefined ? [textTemplate, jsonTemplate] : [literal<string>, literal<Json>];
  const delayMs = turn.delayMs ?? 0;
  const texts = typeof turn.text === "string" ? [turn.text] : (turn.text ?? []);
  const chunks = texts.map((chunk) =>
    typeof chunk === "string"
      ? { text: ofText(chunk), delayMs }
      : { text: ofText(chunk.text), delayMs: chunk.delayMs ?? delayMs },
  );
  const toolCalls = (turn.toolCalls ?? []).map(({ name, input }) => ({ name, input: ofJson(input ?? {}) }));
  return {
    line,
    request,
    summary: request === undefined ? summaryOf(turn.match) : "a recorded request",
    matches: compileMatch(turn.match),
    chunks,
    silentDelayMs: chunks.length === 0 ? delayMs : 0,
    toolCalls,
    error: turn.error,
    usage: {
      inputTokens: turn.usage?.inputTokens ?? 0,
      outputTokens: turn.usage?.outputTokens ?? 0,
      cachedInputTokens: turn.usage?.cachedInputTokens ?? 0,
    },
    finishReason: turn.finishReason ?? (toolCalls.length > 0 ? "tool_calls" : "stop"),
  };
};

const firstLine = (text: string): string => text.split("\n", 1)[0] ?? text;

/** The YAML of a script as plain values, or what is wrong with it as YAML. */
const readYaml = (
  text: string,
  fileName: string,
): Result<
  { readonly document: Document; readonly lines: LineCounter; readonly value: unknown },
  readonly Problem[]
> => {
  const lines = new LineCounter();
  try {
    const document = parseDocument(text, { schema: "core", lineCounter: lines, prettyErrors: false });
    if (document.errors.length > 0) {
      return err(
        document.errors.slice(0, MAX_PROBLEMS).map((error) => ({
          file: fileName,
          line: lines.linePos(error.pos[0]).line,
          message: `is not valid YAML: ${firstLine(error.message)}`,
        })),
      );
    }
    const value: unknown = document.toJS({ maxAliasCount: MAX_ALIASES });
    return ok({ document, lines, value });
  } catch (cause) {
    // Too many aliases, or nesting deeper than the parser's stack.
    const reason = cause instanceof Error ? firstLine(cause.message) : String(cause);
    return err([{ file: fileName, line: 1, message: `cannot be read as YAML: ${reason}` }]);
  }
};

/**
 * Reads a script of the `scripted/*` provider. Gives every problem with its line: broken YAML, unknown fields, patterns
 * that RE2 does not know, quotes of captures that do not exist. Never throws.
 */
export const parseScript = (text: string, fileName: string): Result<Script, readonly Problem[]> => {
  if (Buffer.byteLength(text) > MAX_SCRIPT_BYTES) {
    return err([{ file: fileName, line: 1, message: `is larger than ${MAX_SCRIPT_BYTES / 1024} kB` }]);
  }
  const yaml = readYaml(text, fileName);
  if (!yaml.ok) return yaml;
  const { document, lines, value } = yaml.value;
  const problem = (path: Path, message: string): Problem => ({
    file: fileName,
    line: lineOf(document, lines, path),
    message: path.length === 0 ? message : `${nameOf(path)} ${message}`,
  });

  const parsed = scriptSchema.safeParse(value);
  if (!parsed.success) {
    return err(parsed.error.issues.slice(0, MAX_PROBLEMS).map((issue) => problem(issue.path, issueWords(issue))));
  }
  const checks = parsed.data.turns.map((turn, index) => checkTurn(turn, ["turns", index]));
  const problems = checks.flatMap((check) => check.problems).map(({ path, message }) => problem(path, message));
  if (checks.reduce((sum, check) => sum + check.program, 0) > MAX_PROGRAM) {
    problems.push(problem(["turns"], "hold too many patterns: make them fewer or simpler"));
  }
  if (problems.length > 0) return err(problems.slice(0, MAX_PROBLEMS));
  const turns = parsed.data.turns.map((turn, index) => compileTurn(turn, lineOf(document, lines, ["turns", index])));
  return ok({ turns });
};
