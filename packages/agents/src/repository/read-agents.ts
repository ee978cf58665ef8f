import { setImmediate as letOthersRun } from "node:timers/promises";

import { err, ok, type Result } from "@shaman/kernel";

import { agentPathOfFile, isPromptFile, nameOfPath } from "../definition/agent-name.ts";
import { splitFrontMatter } from "../definition/front-matter.ts";
import {
  completeAgent,
  MAX_AGENT_BYTES,
  readAgentHead,
  scriptFileOf,
  type AgentHead,
  type DefinitionDeps,
  type ParsedAgent,
  type ParseScript,
} from "../definition/parse-definition.ts";
import { MAX_PROBLEMS, type Problem } from "../definition/problem.ts";
import { includedFiles, MAX_INCLUDE_BYTES, type FileLookup } from "../definition/prompt-template.ts";
import { callsElsewhere, type CallElsewhere } from "./calls-elsewhere.ts";
import { AGENTS_JSON, parseAgentsJson, type Alias } from "./parse-agents-json.ts";
import { MAX_FILES, WHOLE_DIRECTORY, type SourceFile, type SourceFiles } from "./source-files.ts";

const MAX_AGENTS = 1_000;
/** All texts of one commit together, so that no repository fills the memory of the process that reads it. */
const MAX_TEXT_BYTES = 64 * 1024 * 1024;
/** A thousand ordinary agents take a third of a second. */
const MAX_READING_MS = 30_000;
/** Agents read in one go: a few milliseconds, in which the process does nothing else. */
const BATCH = 20;

/** Everything a repository's directory says about agents, checked. */
export type RepositoryContent = {
  readonly agents: readonly ParsedAgent[];
  readonly aliases: readonly Alias[];
  readonly defaultAgent?: string;
  /** What its agents call beyond it, whether or not it is there. */
  readonly calls: readonly CallElsewhere[];
};

/** Documents that many repositories have, and that are never agents when they are links or long. */
const DOCUMENTS = new Set([
  "readme",
  "changelog",
  "license",
  "contributing",
  "code_of_conduct",
  "security",
  "agents",
  "claude",
]);

const KINDS: Readonly<Record<Exclude<SourceFile["kind"], "file">, string>> = {
  symlink: "is a symbolic link, which is never followed: put an ordinary file here",
  submodule: "is a submodule, which is never fetched: put an ordinary file here",
  other: "is not an ordinary file",
};

/** Why a file that may be an agent is not even opened. */
const unopenable = (file: SourceFile): string | undefined => {
  if (file.kind !== "file") return KINDS[file.kind];
  const limit = isPromptFile(file.path) ? MAX_AGENT_BYTES : MAX_INCLUDE_BYTES;
  if (file.bytes <= limit) return undefined;
  return `is larger than ${MAX_AGENT_BYTES / 1024} kB, the limit of an agent file: it has ${file.bytes} bytes`;
};

const isDocument = (file: SourceFile): boolean =>
  DOCUMENTS.has(nameOfPath(file.path).replace(/\.md$/, "").toLowerCase());

const mayBeAgent = (file: SourceFile): boolean => file.path === "prompt.md" || agentPathOfFile(file.path) !== undefined;

const decode = (bytes: Uint8Array): string | undefined => {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    return text.includes("\0") ? undefined : text;
  } catch {
    // Not UTF-8: reported where the file is used.
    return undefined;
  }
};

/** The texts that have been opened so far, and the way to more of them. */
type Texts = {
  readonly lookup: FileLookup;
  /** Opens those of `paths` that may be opened and are not yet. */
  readonly open: (paths: Iterable<string>) => Promise<void>;
  readonly isFull: () => boolean;
};

const openTexts = (files: SourceFiles): Texts => {
  const byPath = new Map(files.list.map((file) => [file.path, file]));
  const texts = new Map<string, string | undefined>();
  let bytes = 0;
  const lookup: FileLookup = (path) => {
    const file = byPath.get(path);
    if (file === undefined) return { kind: "unreadable", reason: "does not exist" };
    if (file.kind !== "file") return { kind: "unreadable", reason: KINDS[file.kind] };
    const text = texts.get(path);
    if (text !== undefined) return { kind: "text", text };
    const isLarge = file.bytes > MAX_INCLUDE_BYTES;
    return {
      kind: "unreadable",
      reason: isLarge ? `is larger than ${MAX_INCLUDE_BYTES / 1024} kB` : "is not UTF-8 text",
    };
  };
  const open = async (paths: Iterable<string>): Promise<void> => {
    const wanted = [...new Set(paths)].filter((path) => {
      const file = byPath.get(path);
      return !texts.has(path) && file?.kind === "file" && file.bytes <= MAX_INCLUDE_BYTES;
    });
    bytes += wanted.reduce((sum, path) => sum + (byPath.get(path)?.bytes ?? 0), 0);
    if (wanted.length === 0 || bytes > MAX_TEXT_BYTES) return;
    const contents = await files.read(wanted);
    for (const path of wanted) {
      const content = contents.get(path);
      texts.set(path, content === undefined ? undefined : decode(content));
    }
  };
  return { lookup, open, isFull: () => bytes > MAX_TEXT_BYTES };
};

const problemOf = (file: string, message: string): Problem => ({ file, line: 1, message });

/** Calls `use` for every item, letting the rest of the process run in between. False when that takes too long. */
const eachInTurn = async <T>(items: readonly T[], use: (item: T) => void): Promise<boolean> => {
  const startedMs = performance.now();
  for (const [index, item] of items.entries()) {
    if (index % BATCH === BATCH - 1) await letOthersRun();
    if (performance.now() - startedMs > MAX_READING_MS) return false;
    use(item);
  }
  return true;
};

const tooSlow = problemOf(
  WHOLE_DIRECTORY,
  `the agents take longer than ${MAX_READING_MS / 1000} s to read: make them simpler`,
);

/** The front matter of every agent, and the problems of files that must be agents and are none. */
const readHeads = async (
  deps: DefinitionDeps,
  candidates: readonly SourceFile[],
  lookup: FileLookup,
): Promise<{
  readonly heads: readonly AgentHead[];
  readonly agentFiles: readonly string[];
  readonly problems: readonly Problem[];
}> => {
  const heads: AgentHead[] = [];
  const agentFiles: string[] = [];
  const problems: Problem[] = [];
  const inTime = await eachInTurn(candidates, ({ path: file }) => {
    const found = lookup(file);
    if (found.kind === "unreadable") {
      if (isPromptFile(file)) problems.push(problemOf(file, found.reason));
      return;
    }
    if (!isPromptFile(file) && splitFrontMatter(found.text).kind === "none") return;
    agentFiles.push(file);
    const head = readAgentHead(deps, { file, text: found.text });
    if (head.ok) heads.push(head.value);
    else problems.push(...head.error);
  });
  if (!inTime) problems.push(tooSlow);
  return { heads, agentFiles, problems };
};

/** Agents are called by their last segment, so that it must be unique in the repository whatever the folder or case. */
const duplicateProblems = (agentFiles: readonly string[]): readonly Problem[] => {
  const first = new Map<string, string>();
  return agentFiles.flatMap((file) => {
    const path = agentPathOfFile(file);
    if (path === undefined) return [];
    const key = nameOfPath(path).toLowerCase();
    const other = first.get(key);
    if (other === undefined) {
      first.set(key, file);
      return [];
    }
    return [
      problemOf(
        file,
        `the name ${nameOfPath(path)} is already that of the agent in ${other}: names are unique in a repository, also without regard to case`,
      ),
    ];
  });
};

/** Opens what the agents include, level by level, and their scripts. */
const openReferences = async (texts: Texts, heads: readonly AgentHead[]): Promise<void> => {
  const scripts = heads.flatMap((head) => scriptFileOf(head.file, head.values.model ?? "") ?? []);
  await texts.open(scripts);
  const seen = new Set<string>();
  let level = new Map(heads.map((head) => [head.file, head.text]));
  while (level.size > 0 && !texts.isFull()) {
    const targets = [...level].flatMap(([file, text]) => includedFiles(file, text)).filter((path) => !seen.has(path));
    for (const path of targets) seen.add(path);
    await texts.open(targets);
    level = new Map(
      targets.flatMap((path) => {
        const found = texts.lookup(path);
        return found.kind === "text" ? [[path, found.text] as const] : [];
      }),
    );
  }
};

/** A script that several agents share is checked once. */
const rememberScripts = (parseScript: ParseScript): ParseScript => {
  const results = new Map<string, ReturnType<ParseScript>>();
  return (text, fileName) => {
    const known = results.get(fileName) ?? parseScript(text, fileName);
    results.set(fileName, known);
    return known;
  };
};

/** Paths and quotes come from strangers: nothing in them may steer a terminal. */
const printable = (text: string): string => text.replace(/\p{C}/gu, "\u{fffd}");

const tidy = (found: readonly Problem[]): readonly Problem[] => {
  const problems = found.map(({ file, line, message }) => ({
    file: printable(file),
    line,
    message: printable(message),
  }));
  const unique = new Map(problems.map((problem) => [`${problem.file}\0${problem.line}\0${problem.message}`, problem]));
  const sorted = [...unique.values()].toSorted((a, b) =>
    a.file === b.file ? a.line - b.line : a.file < b.file ? -1 : 1,
  );
  if (sorted.length <= MAX_PROBLEMS) return sorted;
  const more = sorted.length - MAX_PROBLEMS;
  return [
    ...sorted.slice(0, MAX_PROBLEMS),
    problemOf(WHOLE_DIRECTORY, `and ${more} more problem${more === 1 ? "" : "s"}`),
  ];
};

const readAliases = (
  texts: Texts,
  files: SourceFiles,
  agents: readonly ParsedAgent[],
): ReturnType<typeof parseAgentsJson> => {
  if (!files.list.some((file) => file.path === AGENTS_JSON)) return ok({ aliases: [] });
  const found = texts.lookup(AGENTS_JSON);
  if (found.kind === "unreadable") return err([problemOf(AGENTS_JSON, found.reason)]);
  return parseAgentsJson(
    found.text,
    agents.map(({ definition }) => definition),
  );
};

/**
 * Reads every agent of a directory, with includes, scripts and `agents.json`. One problem anywhere refuses all of it,
 * with every problem that was found; what is no agent is ignored and not opened. Throws only what `files.read` throws.
 */
export const readAgents = async (
  deps: DefinitionDeps,
  files: SourceFiles,
): Promise<Result<RepositoryContent, readonly Problem[]>> => {
  if (files.list.length > MAX_FILES) {
    return err([
      problemOf(WHOLE_DIRECTORY, `the directory holds more than ${MAX_FILES} files: register a smaller one`),
    ]);
  }
  const possible = files.list.filter(mayBeAgent).filter((file) => unopenable(file) === undefined || !isDocument(file));
  const problems: Problem[] = possible.flatMap((file) => {
    const reason = unopenable(file);
    return reason === undefined ? [] : [problemOf(file.path, reason)];
  });
  const candidates = possible.filter((file) => unopenable(file) === undefined);
  const texts = openTexts(files);
  await texts.open([...candidates.map((file) => file.path), AGENTS_JSON]);
  const { heads, agentFiles, problems: headProblems } = await readHeads(deps, candidates, texts.lookup);
  problems.push(...headProblems, ...duplicateProblems(agentFiles));
  if (agentFiles.length > MAX_AGENTS) {
    problems.push(problemOf(WHOLE_DIRECTORY, `the directory holds more than ${MAX_AGENTS} agents`));
    return err(tidy(problems));
  }
  await openReferences(texts, heads);
  if (texts.isFull()) {
    return err([
      problemOf(WHOLE_DIRECTORY, `the agents and what they include are larger than ${MAX_TEXT_BYTES / 1024 / 1024} MB`),
    ]);
  }

  const complete = { ...deps, parseScript: rememberScripts(deps.parseScript), lookup: texts.lookup };
  const agents: ParsedAgent[] = [];
  const inTime = await eachInTurn(heads, (head) => {
    const agent = completeAgent(complete, head);
    if (agent.ok) agents.push(agent.value);
    else problems.push(...agent.error);
  });
  if (!inTime) problems.push(tooSlow);
  // With agents missing, what agents.json says about them would only add noise.
  const aliases = problems.length > 0 ? ok({ aliases: [] }) : readAliases(texts, files, agents);
  if (!aliases.ok) problems.push(...aliases.error);
  if (problems.length > 0 || !aliases.ok) return err(tidy(problems));
  const content = { agents, ...aliases.value };
  const calls = callsElsewhere(heads, content).map((call) => ({ ...call, file: printable(call.file) }));
  return ok({ ...content, calls });
};
