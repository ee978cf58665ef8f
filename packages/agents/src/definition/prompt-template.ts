import { posix } from "node:path";

import { findNearNames } from "./near-name.ts";
import { MAX_PROBLEMS, type Problem } from "./problem.ts";
import { splitFrontMatter } from "./front-matter.ts";

/** What the parser may read besides the file itself. */
export type FileLookup = (
  path: string,
) => { readonly kind: "text"; readonly text: string } | { readonly kind: "unreadable"; readonly reason: string };

/** A piece of a prompt as a range of a file's text, so that a file shared by many agents is kept once. */
export type PromptSlice =
  | { readonly kind: "prompt" }
  | { readonly kind: "text"; readonly file: string; readonly from: number; readonly to: number };

export const MAX_INCLUDE_BYTES = 256 * 1024;
const MAX_EXPANDED_CHARS = 256 * 1024;
const MAX_INCLUDE_DEPTH = 5;
const MAX_SLICES = 1_000;
const MAX_INCLUDES = 200;

/** Braces with one line of something between them; the class excludes braces, so that a search is linear. */
const MARKER = /\{\{([^{}\n]{1,512})\}\}/g;

type Marker =
  | { readonly kind: "prompt" }
  | { readonly kind: "include"; readonly target: string }
  | { readonly kind: "other"; readonly name: string };

const readMarker = (inner: string): Marker => {
  const words = inner.trim();
  if (words === "prompt") return { kind: "prompt" };
  return words.startsWith(">") ? { kind: "include", target: words.slice(1).trim() } : { kind: "other", name: words };
};

/** The path within the registered directory that `target` means in `file`, or undefined when it leads out of it. */
export const resolveBeside = (file: string, target: string): string | undefined => {
  if (target === "" || target.startsWith("/") || target.includes("\\") || target.includes("\0")) return undefined;
  const path = posix.normalize(posix.join(posix.dirname(file), target));
  return path === ".." || path.startsWith("../") || path === "." || path.endsWith("/") ? undefined : path;
};

/** Paths of the files that `text`, standing in `file`, includes; those that lead out of the directory are left out. */
export const includedFiles = (file: string, text: string): readonly string[] =>
  [...text.matchAll(MARKER)].flatMap((match) => {
    const marker = readMarker(match[1] ?? "");
    const path = marker.kind === "include" ? resolveBeside(file, marker.target) : undefined;
    return path === undefined ? [] : [path];
  });

const lineAt = (text: string, offset: number): number => {
  let line = 1;
  for (let at = text.indexOf("\n"); at !== -1 && at < offset; at = text.indexOf("\n", at + 1)) line += 1;
  return line;
};

export type PromptTemplate = {
  readonly slices: readonly PromptSlice[];
  readonly problems: readonly Problem[];
  /** Every file whose text is part of the prompt, the agent's own first. */
  readonly files: ReadonlyMap<string, string>;
};

/** A prompt while it is being put together. */
type Expansion = {
  readonly lookup: FileLookup;
  readonly slices: PromptSlice[];
  readonly problems: Problem[];
  readonly files: Map<string, string>;
  chars: number;
  includes: number;
};

/** A text on its way in: `chain` leads from the agent's file to this one. */
type Source = { readonly chain: readonly string[]; readonly file: string; readonly text: string };

const refuse = (
  expansion: Expansion,
  source: Source,
  at: { readonly offset: number; readonly message: string },
): void => {
  expansion.problems.push({ file: source.file, line: lineAt(source.text, at.offset), message: at.message });
};

const addText = (
  expansion: Expansion,
  slice: { readonly file: string; readonly from: number; readonly to: number },
): void => {
  if (slice.to <= slice.from) return;
  expansion.chars += slice.to - slice.from;
  expansion.slices.push({ kind: "text", ...slice });
};

const isFull = (expansion: Expansion): boolean =>
  expansion.chars > MAX_EXPANDED_CHARS ||
  expansion.slices.length > MAX_SLICES ||
  expansion.includes > MAX_INCLUDES ||
  expansion.problems.length > MAX_PROBLEMS;

/** The included text, or why `target` cannot be included in `source`. */
const findInclude = (expansion: Expansion, source: Source, target: string): Source | string => {
  const { chain } = source;
  const path = resolveBeside(source.file, target);
  if (path === undefined) return "leads out of the repository's directory";
  if (chain.includes(path)) return `loops: ${[...chain.slice(chain.indexOf(path)), path].join(" → ")}`;
  if (chain.length > MAX_INCLUDE_DEPTH) return `is nested deeper than ${MAX_INCLUDE_DEPTH} levels`;
  const found = expansion.lookup(path);
  if (found.kind === "unreadable") return found.reason;
  if (Buffer.byteLength(found.text) > MAX_INCLUDE_BYTES) return `is larger than ${MAX_INCLUDE_BYTES / 1024} kB`;
  if (splitFrontMatter(found.text).kind !== "none") {
    return "has front matter, so it is an agent: move the text you share to a file without it";
  }
  return { chain: [...chain, path], file: path, text: found.text };
};

const isMisspeltPrompt = (name: string): boolean =>
  /^\w{1,64}$/.test(name) && findNearNames(name, ["prompt"]).length > 0;

/** Adds what `source` says from `from` to `to`, with what it includes. */
const expand = (expansion: Expansion, source: Source, range: { readonly from: number; readonly to: number }): void => {
  const { file, text } = source;
  expansion.files.set(file, text);
  let at = range.from;
  for (const match of text.slice(range.from, range.to).matchAll(MARKER)) {
    const offset = range.from + match.index;
    const marker = readMarker(match[1] ?? "");
    if (marker.kind === "other") {
      if (isMisspeltPrompt(marker.name)) {
        refuse(expansion, source, { offset, message: `unknown marker ${match[0]}. Did you mean {{prompt}}?` });
      }
      continue;
    }
    addText(expansion, { file, from: at, to: offset });
    at = offset + match[0].length;
    if (marker.kind === "prompt") expansion.slices.push(marker);
    else {
      expansion.includes += 1;
      const found = findInclude(expansion, source, marker.target);
      if (typeof found === "string") {
        refuse(expansion, source, { offset, message: `include ${marker.target.slice(0, 200)} ${found}` });
      } else {
        // The line break that ends an included file belongs to the file, not to the sentence it is put into.
        expand(expansion, found, { from: 0, to: found.text.replace(/\r?\n$/, "").length });
      }
    }
    if (isFull(expansion)) return;
  }
  addText(expansion, { file, from: at, to: range.to });
};

/**
 * Cuts the body of an agent file into literal text and places of the prompt, includes expanded. What an include brings
 * in is cut in its turn; the caller's prompt never is, because it comes later.
 */
export const parseTemplate = (
  lookup: FileLookup,
  source: { readonly file: string; readonly text: string; readonly bodyAt: number },
): PromptTemplate => {
  const { file, text, bodyAt } = source;
  const expansion: Expansion = { lookup, slices: [], problems: [], files: new Map(), chars: 0, includes: 0 };
  expand(expansion, { chain: [file], file, text }, { from: bodyAt, to: text.length });
  if (isFull(expansion) && expansion.problems.length === 0) {
    const most = `at most ${MAX_EXPANDED_CHARS / 1024} kB, ${MAX_SLICES} pieces and ${MAX_INCLUDES} includes`;
    expansion.problems.push({
      file,
      line: lineAt(text, bodyAt),
      message: `the prompt with its includes is too large: ${most}`,
    });
  }
  return expansion;
};
