import { err, ok, type Result } from "@shaman/kernel";

import type { AgentDefinition, McpServerUse, PromptSegment } from "./agent-definition.ts";
import { type CompleteLimits, MAXIMUM_LIMITS } from "./agent-limits.ts";
import { agentPathOfFile, findPathProblem, nameOfPath } from "./agent-name.ts";
import { FRONT_MATTER_KEYS, frontMatterSchema, type FrontMatterValues } from "./front-matter-schema.ts";
import { splitFrontMatter } from "./front-matter.ts";
import { didYouMean } from "./near-name.ts";
import { MAX_PROBLEMS, type Problem } from "./problem.ts";
import { type FileLookup, parseTemplate, type PromptSlice, resolveBeside } from "./prompt-template.ts";
import { readYaml } from "./yaml-file.ts";

export const MAX_AGENT_BYTES = 64 * 1024;
const MAX_DEFINITION_CHARS = 256 * 1024;

/** Checks the script of a `scripted/*` model. Comes from the room of models, which this one may not import. */
export type ParseScript = (text: string, fileName: string) => Result<unknown, readonly Problem[]>;

export type DefinitionDeps = {
  readonly parseScript: ParseScript;
  /** The most a file's `limits` may ask for; the product's own maxima when absent. */
  readonly maximumLimits?: CompleteLimits;
};

/** A definition with where its prompt came from, so that it can be stored without copying what agents share. */
export type ParsedAgent = {
  readonly definition: AgentDefinition;
  readonly slices: readonly PromptSlice[];
  /** Texts by path: the agent's file, its includes, its script. */
  readonly files: ReadonlyMap<string, string>;
};

const SCRIPTED = "scripted/";

/** The path of the script that `model` names in `file`; undefined when it is no script or leads out of the directory. */
export const scriptFileOf = (file: string, model: string): string | undefined => {
  if (!model.startsWith(SCRIPTED)) return undefined;
  const path = resolveBeside(file, model.slice(SCRIPTED.length));
  return path !== undefined && /\.ya?ml$/.test(path) ? path : undefined;
};

type Located = (path: readonly PropertyKey[], message: string) => Problem;

const readScript = (
  deps: DefinitionDeps & { readonly lookup: FileLookup },
  place: { readonly file: string; readonly model: string | undefined; readonly at: Located },
): Result<{ readonly file: string; readonly text: string } | undefined, readonly Problem[]> => {
  const { file, model, at } = place;
  if (model === undefined || !model.startsWith(SCRIPTED)) return ok(undefined);
  const path = scriptFileOf(file, model);
  if (path === undefined) {
    return err([
      at(["model"], `model: ${model} must name a .yaml file within the repository's directory, relative to this file`),
    ]);
  }
  const found = deps.lookup(path);
  if (found.kind === "unreadable") return err([at(["model"], `model: script ${path} ${found.reason}`)]);
  const parsed = deps.parseScript(found.text, path);
  return parsed.ok ? ok({ file: path, text: found.text }) : err(parsed.error);
};

/** The tools of a server by either of their names; undefined where the agent takes whatever the server has. */
const toolNamesOf = ([server, use]: readonly [string, McpServerUse]): readonly string[] | undefined =>
  use.tools === "*" || use.tools.includes("*") ? undefined : use.tools.flatMap((name) => [name, `${server}__${name}`]);

/** A misspelt tool in `approval` would be a tool that nobody approves, so names must be known where they can be. */
const toolProblems = (values: FrontMatterValues, at: Located): readonly Problem[] => {
  const servers = Object.entries(values.mcpServers).map(toolNamesOf);
  if (servers.includes(undefined)) return [];
  const known = new Set<string>([...values.tools, ...servers.flatMap((names) => names ?? [])]);
  return (["approval", "repeatable"] as const).flatMap((key) =>
    values[key].flatMap((name, index) =>
      known.has(name) ? [] : [at([key, index], `${key}: the agent has no tool ${name}.${didYouMean(name, known)}`)],
    ),
  );
};

const repeatedSkills = (values: FrontMatterValues, at: Located): readonly Problem[] => {
  const seen = new Set<string>();
  return values.skills.flatMap((skill, index) => {
    if (seen.has(skill.id)) return [at(["skills", index, "id"], `skills: the id ${skill.id} is there twice`)];
    seen.add(skill.id);
    return [];
  });
};

const segmentsOf = (slices: readonly PromptSlice[], files: ReadonlyMap<string, string>): readonly PromptSegment[] =>
  slices.map((slice) =>
    slice.kind === "prompt" ? slice : { kind: "text", text: (files.get(slice.file) ?? "").slice(slice.from, slice.to) },
  );

/** Drops keys whose value is undefined, as optional properties of a definition are absent instead. */
const withoutUndefined = <T extends object>(value: T): { [K in keyof T]: Exclude<T[K], undefined> } =>
  // The cast states what the filter has just done.
  Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>;
  };

/** An agent whose front matter has been read; what it includes comes later. */
export type AgentHead = {
  readonly file: string;
  readonly path: string;
  readonly text: string;
  readonly bodyAt: number;
  readonly values: FrontMatterValues;
  readonly at: Located;
};

const checkFile = (file: string, text: string): Result<string, readonly Problem[]> => {
  const refuse = (message: string) => err([{ file, line: 1, message }]);
  const path = agentPathOfFile(file);
  if (path === undefined) return refuse("cannot be an agent: agents are Name.md or Name/prompt.md");
  const pathProblem = findPathProblem(path);
  if (pathProblem !== undefined) return refuse(pathProblem);
  if (Buffer.byteLength(text) > MAX_AGENT_BYTES) {
    return refuse(`is larger than ${MAX_AGENT_BYTES / 1024} kB, the limit of an agent file`);
  }
  return ok(path);
};

/** The first half of reading an agent: everything its own front matter says. */
export const readAgentHead = (
  deps: Pick<DefinitionDeps, "maximumLimits">,
  source: { readonly file: string; readonly text: string },
): Result<AgentHead, readonly Problem[]> => {
  const { file, text } = source;
  const path = checkFile(file, text);
  if (!path.ok) return path;
  const front = splitFrontMatter(text);
  if (front.kind === "none") {
    return err([{ file, line: 1, message: "has no front matter: an agent begins with --- alone on the first line" }]);
  }
  if (front.kind === "broken") return err([{ file, line: front.line, message: front.message }]);
  const yaml = readYaml({ file, text: front.yaml, firstLine: front.firstLine });
  if (!yaml.ok) return yaml;
  const parsed = frontMatterSchema(deps.maximumLimits ?? MAXIMUM_LIMITS).safeParse(yaml.value.value);
  if (!parsed.success) return err(yaml.value.problemsOfShape(parsed.error, FRONT_MATTER_KEYS));

  const at = yaml.value.problemAt;
  const values = parsed.data;
  const name = nameOfPath(path.value);
  const problems = [...toolProblems(values, at), ...repeatedSkills(values, at)];
  if (values.name !== undefined && values.name !== name) {
    const given = JSON.stringify(values.name.slice(0, 80));
    problems.unshift(at(["name"], `name: is ${given}, but an agent is called as its file: ${name}`));
  }
  if (JSON.stringify(values).length > MAX_DEFINITION_CHARS) {
    problems.push({ file, line: 1, message: "the front matter expands to too much" });
  }
  return problems.length > 0 ? err(problems) : ok({ file, path: path.value, text, bodyAt: front.bodyAt, values, at });
};

/** The second half: the body with its includes, and the script of a scripted model. */
export const completeAgent = (
  deps: DefinitionDeps & { readonly lookup: FileLookup },
  head: AgentHead,
): Result<ParsedAgent, readonly Problem[]> => {
  const { file, path, values } = head;
  const template = parseTemplate(deps.lookup, head);
  const script = readScript(deps, { file, model: values.model, at: head.at });
  if (!script.ok || template.problems.length > 0) {
    return err([...template.problems, ...(script.ok ? [] : script.error)].slice(0, MAX_PROBLEMS));
  }
  const files = new Map(template.files);
  if (script.value !== undefined) files.set(script.value.file, script.value.text);
  const definition: AgentDefinition = {
    ...withoutUndefined({ ...values, limits: withoutUndefined(values.limits), retry: withoutUndefined(values.retry) }),
    path,
    name: nameOfPath(path),
    file,
    template: segmentsOf(template.slices, template.files),
    usesPrompt: template.slices.some((slice) => slice.kind === "prompt"),
    ...(script.value !== undefined && { script: script.value }),
  };
  return ok({ definition, slices: template.slices, files });
};

/**
 * Reads one agent file. `file` is its path within the registered directory; `files` has the texts it may include and
 * its script, by path. Gives every problem with its line; never throws.
 */
export const parseDefinition = (
  deps: DefinitionDeps,
  source: { readonly file: string; readonly text: string; readonly files?: ReadonlyMap<string, string> },
): Result<AgentDefinition, readonly Problem[]> => {
  const lookup: FileLookup = (path) => {
    const text = source.files?.get(path);
    return text === undefined ? { kind: "unreadable", reason: "does not exist" } : { kind: "text", text };
  };
  const head = readAgentHead(deps, source);
  if (!head.ok) return head;
  const parsed = completeAgent({ ...deps, lookup }, head.value);
  return parsed.ok ? ok(parsed.value.definition) : parsed;
};
