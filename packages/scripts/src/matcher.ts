import { RE2JS } from "re2js";

import type { Asked, RequestDigest } from "./asked.ts";
import type { ScriptTurn, TextPattern } from "./script-schema.ts";

/** Adds the named captures it finds to `captures`; tells whether the text agrees. */
type TextTest = (text: string, captures: Map<string, string>) => boolean;

export type Matcher = (asked: Asked, captures: Map<string, string>) => boolean;

/** Linear time still grows with pattern × text, and both are the tenant's: beyond this a pattern sees the start only. */
const MAX_SEARCHED_CHARS = 32_000;
/** Instructions of one compiled pattern, in the count of RE2. */
const MAX_PATTERN_PROGRAM = 500;

/** Compiles a tenant's pattern on RE2; a sentence instead when it is not one. */
export const compilePattern = (regex: string): RE2JS | string => {
  try {
    const compiled = RE2JS.compile(regex);
    if (compiled.programSize() > MAX_PATTERN_PROGRAM) return "is too large a pattern: make it simpler";
    return compiled;
  } catch (cause) {
    return `is not a pattern in RE2 syntax: ${cause instanceof Error ? cause.message : String(cause)}`;
  }
};

const regexTest = (regex: string): TextTest => {
  const compiled = compilePattern(regex);
  if (typeof compiled === "string") return () => false;
  const names = Object.keys(compiled.namedGroups());
  return (text, captures) => {
    const matcher = compiled.matcher(text.slice(0, MAX_SEARCHED_CHARS));
    if (!matcher.find()) return false;
    for (const name of names) captures.set(name, matcher.group(name) ?? "");
    return true;
  };
};

const containsTest = (pattern: TextPattern): TextTest =>
  typeof pattern === "string" ? (text) => text.includes(pattern) : regexTest(pattern.regex);

const equalsTest = (pattern: TextPattern): TextTest =>
  typeof pattern === "string" ? (text) => text === pattern : regexTest(pattern.regex);

type Match = NonNullable<ScriptTurn["match"]>;

const toolResultMatcher = (wanted: NonNullable<Match["toolResult"]>): Matcher => {
  const fields =
    typeof wanted === "string" || "regex" in wanted ? { tool: undefined, isError: undefined, output: wanted } : wanted;
  const test = fields.output === undefined ? undefined : containsTest(fields.output);
  return (asked, captures) =>
    asked.toolResults.some(
      (result) =>
        (fields.tool === undefined || result.toolName === fields.tool) &&
        (fields.isError === undefined || result.isError === fields.isError) &&
        (test === undefined || test(result.output, captures)),
    );
};

export const DIGEST_PARTS = ["system", "messages", "tools", "settings"] as const;

const requestMatcher =
  (wanted: RequestDigest): Matcher =>
  (asked) => {
    const request = asked.request?.();
    return request !== undefined && DIGEST_PARTS.every((part) => request[part] === wanted[part]);
  };

/** The conditions of one turn, cheapest first; all must hold. */
export const compileMatch = (match: ScriptTurn["match"]): Matcher => {
  const tests: Matcher[] = [];
  if (match?.turn !== undefined) {
    const wanted = match.turn;
    tests.push((asked) => asked.turn === wanted);
  }
  if (match?.messageId !== undefined) {
    const test = equalsTest(match.messageId);
    tests.push((asked, captures) => test(asked.messageId, captures));
  }
  if (match?.request !== undefined) tests.push(requestMatcher(match.request));
  if (match?.toolResult !== undefined) tests.push(toolResultMatcher(match.toolResult));
  if (match?.prompt !== undefined) {
    const test = containsTest(match.prompt);
    tests.push((asked, captures) => test(asked.prompt, captures));
  }
  return (asked, captures) => tests.every((test) => test(asked, captures));
};
