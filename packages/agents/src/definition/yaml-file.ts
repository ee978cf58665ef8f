import { err, ok, type Result } from "@shaman/kernel";
import { isMap, isNode, isScalar, isSeq, LineCounter, parseDocument, visit, type Document } from "yaml";
import type { z } from "zod";

import { didYouMean } from "./near-name.ts";
import type { Problem } from "./problem.ts";

type Path = readonly PropertyKey[];

/** Aliases are a convenience; an agent needs few, a bomb needs many. */
const MAX_ALIASES = 20;
const MAX_NODES = 20_000;
const MAX_SHOWN = 20;

/** The keys a map may have, by its path with list positions left out (`skills`, `limits`, empty for the file itself). */
export type KnownKeys = Readonly<Record<string, readonly string[]>>;

/** YAML as plain values, with the way back from a value to its line. */
export type YamlFile = {
  readonly value: unknown;
  /** A problem at the value on this path, or at the innermost one that exists. */
  readonly problemAt: (path: Path, message: string) => Problem;
  /** A problem at the key itself, where `path` ends with one. */
  readonly problemsOfShape: (error: z.ZodError, known: KnownKeys) => readonly Problem[];
};

const firstLineOf = (text: string): string =>
  text.split("\n", 1)[0]?.replace(/ at line \d+, column \d+:?$/, "") ?? text;

/** Offset of the key or list item that `path` leads to. */
const offsetOf = (document: Document, path: Path): number => {
  let node: unknown = document.contents;
  let offset = isNode(node) ? (node.range?.[0] ?? 0) : 0;
  for (const part of path) {
    if (isMap(node)) {
      const pair = node.items.find(
        (item) => (isScalar(item.key) ? String(item.key.value) : undefined) === String(part),
      );
      if (pair === undefined) break;
      if (isNode(pair.key)) offset = pair.key.range?.[0] ?? offset;
      node = pair.value;
    } else if (isSeq(node) && typeof part === "number") {
      node = node.items[part];
      if (isNode(node)) offset = node.range?.[0] ?? offset;
    } else break;
  }
  return offset;
};

const nameOf = (path: Path): string =>
  path
    .map((part) => (typeof part === "number" ? `[${part}]` : `.${String(part)}`))
    .join("")
    .replace(/^\./, "");

/** What PostgreSQL cannot keep as text: NUL, and half of a surrogate pair. */
const isStorable = (text: string): boolean => text.isWellFormed() && !text.includes("\0");

/** Problems in what the text says that need no schema to see. */
const contentProblems = (
  document: Document,
  lines: LineCounter,
): { readonly offset: number; readonly message: string }[] => {
  const problems = [...document.errors, ...document.warnings].map((error) => ({
    offset: error.pos[0],
    message: `is not valid YAML: ${firstLineOf(error.message)}`,
  }));
  let nodes = 0;
  visit(document, {
    Node: (_key, node) => {
      nodes += 1;
      if (nodes > MAX_NODES) return visit.BREAK;
      if (isScalar(node) && typeof node.value === "string" && !isStorable(node.value)) {
        problems.push({
          offset: node.range?.[0] ?? 0,
          message: "holds a character that cannot be stored (NUL or half of a pair)",
        });
      }
      return undefined;
    },
  });
  if (nodes > MAX_NODES) problems.push({ offset: 0, message: "holds too many values" });
  return problems.toSorted((a, b) => lines.linePos(a.offset).line - lines.linePos(b.offset).line);
};

const shapeProblems = (
  error: z.ZodError,
  known: KnownKeys,
  at: (path: Path, message: string) => Problem,
): readonly Problem[] =>
  error.issues.slice(0, MAX_SHOWN).flatMap((issue) => {
    if (issue.code !== "unrecognized_keys") {
      return [at(issue.path, issue.path.length === 0 ? issue.message : `${nameOf(issue.path)}: ${issue.message}`)];
    }
    const parent = issue.path.filter((part) => typeof part === "string").join(".");
    return issue.keys.slice(0, MAX_SHOWN).map((key) => {
      const hint = didYouMean(key, known[parent] ?? []);
      return at([...issue.path, key], `unknown key ${nameOf([...issue.path, key])}.${hint}`);
    });
  });

/**
 * Reads YAML that somebody else wrote: core schema, no tags, few aliases, bounded size of what it expands to. Never
 * throws. `firstLine` is the line of the file on which `text` begins.
 */
export const readYaml = (source: {
  readonly file: string;
  readonly text: string;
  readonly firstLine?: number;
}): Result<YamlFile, readonly Problem[]> => {
  const { file, text, firstLine = 1 } = source;
  const lines = new LineCounter();
  const lineAt = (offset: number): number => firstLine - 1 + Math.max(1, lines.linePos(offset).line);
  try {
    const document = parseDocument(text, { schema: "core", lineCounter: lines, prettyErrors: false });
    const problems = contentProblems(document, lines);
    if (problems.length > 0) {
      return err(problems.slice(0, MAX_SHOWN).map(({ offset, message }) => ({ file, line: lineAt(offset), message })));
    }
    const value: unknown = document.toJS({ maxAliasCount: MAX_ALIASES });
    const problemAt = (path: Path, message: string): Problem => ({
      file,
      line: lineAt(offsetOf(document, path)),
      message,
    });
    return ok({ value, problemAt, problemsOfShape: (error, known) => shapeProblems(error, known, problemAt) });
  } catch (cause) {
    // Too many aliases, or nesting deeper than the parser's stack.
    const reason = cause instanceof Error ? firstLineOf(cause.message) : String(cause);
    return err([{ file, line: firstLine, message: `cannot be read as YAML: ${reason}` }]);
  }
};
