import { err, ok, type Result } from "@shaman/kernel";
import { z } from "zod";

import { findSegmentProblem } from "../definition/agent-name.ts";
import { didYouMean } from "../definition/near-name.ts";
import type { Problem } from "../definition/problem.ts";
import { readYaml } from "../definition/yaml-file.ts";

export const AGENTS_JSON = "agents.json";
const MAX_ALIASES = 1_000;

/** Another name for an agent of the repository, or the name of an agent elsewhere. */
export type Alias = {
  readonly name: string;
  readonly target:
    | { readonly kind: "agent"; readonly path: string }
    | { readonly kind: "external"; readonly url: string };
};

export type AgentsJson = {
  readonly aliases: readonly Alias[];
  /** Path of the agent that answers for the organization. */
  readonly defaultAgent?: string;
};

/** What `agents.json` may name: the repository's agents. */
export type KnownAgent = { readonly path: string; readonly name: string; readonly exposed: boolean };

const entrySchema = z.strictObject(
  {
    url: z.string({ error: "must be an https address or the path of an agent in this repository" }).min(1).max(2_000),
    aliases: z
      .array(z.string({ error: "must be a name" }), { error: "must be a list of names" })
      .max(32)
      .default([]),
  },
  { error: "must be {url, aliases}" },
);
const fileSchema = z.record(z.string(), z.unknown(), { error: "must be a map from names to {url, aliases}" });

type Located = (path: readonly PropertyKey[], message: string) => Problem;

const parseTarget = (url: string, agents: readonly KnownAgent[]): Alias["target"] | string => {
  if (/^https?:/i.test(url)) {
    const parsed = URL.parse(url);
    if (parsed === null || parsed.username !== "" || parsed.password !== "") {
      return "is not a usable address: write https://host/path, without a user name or password";
    }
    return { kind: "external", url: parsed.href };
  }
  if (url.includes(":")) return "must be an https address or the path of an agent in this repository";
  const path = url.replace(/^\.\//, "").replace(/(?:\/prompt)?\.md$/, "");
  if (agents.some((agent) => agent.path === path)) return { kind: "agent", path };
  const hint = didYouMean(
    path,
    agents.map((agent) => agent.path),
  );
  return `is no agent of this repository: ${path}.${hint}`;
};

/** Why `name` cannot be an alias for `target`. */
const aliasProblem = (name: string, target: Alias["target"], agents: readonly KnownAgent[]): string | undefined => {
  const problem = findSegmentProblem(name);
  if (problem !== undefined) return problem;
  const hidden = agents.find((agent) => agent.name.toLowerCase() === name.toLowerCase());
  const isItself = hidden !== undefined && target.kind === "agent" && target.path === hidden.path;
  return hidden === undefined || isItself ? undefined : `would hide the agent ${hidden.path} of this repository`;
};

const parseDefault = (value: unknown, agents: readonly KnownAgent[]): Result<string, string> => {
  if (typeof value !== "string") return err("must be the name of an agent");
  const agent = agents.find((candidate) => candidate.name === value || candidate.path === value);
  const names = agents.map(({ name }) => name);
  if (agent === undefined) return err(`is no agent of this repository: ${value}.${didYouMean(value, names)}`);
  return agent.exposed ? ok(agent.path) : err(`${value} is private: a default agent must be exposed`);
};

const jsonProblem = (text: string): Problem | undefined => {
  try {
    JSON.parse(text);
    return undefined;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const offset = Number(/at position (\d+)/.exec(reason)?.[1] ?? text.length);
    const line = text.slice(0, offset).split("\n").length;
    return { file: AGENTS_JSON, line, message: `is not valid JSON: ${reason.split("\n", 1)[0]}` };
  }
};

const parseEntry = (
  key: string,
  value: unknown,
  context: { readonly agents: readonly KnownAgent[]; readonly at: Located },
): {
  readonly aliases: readonly (Alias & { readonly place: readonly PropertyKey[] })[];
  readonly problems: readonly Problem[];
} => {
  const { agents, at } = context;
  const entry = entrySchema.safeParse(value);
  if (!entry.success) {
    const problems = entry.error.issues.map((issue) =>
      at([key, ...issue.path], `${[key, ...issue.path].join(".")}: ${issue.message}`),
    );
    return { aliases: [], problems };
  }
  const target = parseTarget(entry.data.url, agents);
  if (typeof target === "string") return { aliases: [], problems: [at([key, "url"], `${key}.url ${target}`)] };
  const places = [
    { name: key, place: [key] },
    ...entry.data.aliases.map((name, index) => ({ name, place: [key, "aliases", index] })),
  ];
  const problems = places.flatMap(({ name, place }) => {
    const problem = aliasProblem(name, target, agents);
    return problem === undefined ? [] : [at(place, `alias ${JSON.stringify(name.slice(0, 80))} ${problem}`)];
  });
  return { aliases: places.map(({ name, place }) => ({ name, target, place })), problems };
};

/**
 * Reads `agents.json`: `{"TaxCalculator": {"url": "https://… or path/in/repo", "aliases": ["Tax"]}, "default": "Name"}`.
 * Gives every problem with its line; never throws.
 */
export const parseAgentsJson = (
  text: string,
  agents: readonly KnownAgent[],
): Result<AgentsJson, readonly Problem[]> => {
  const broken = jsonProblem(text);
  if (broken !== undefined) return err([broken]);
  // JSON is YAML, and the YAML reader knows the line of everything and refuses a key that is there twice.
  const yaml = readYaml({ file: AGENTS_JSON, text });
  if (!yaml.ok) return yaml;
  const at = yaml.value.problemAt;
  const file = fileSchema.safeParse(yaml.value.value);
  if (!file.success) return err([at([], file.error.issues[0]?.message ?? "is not valid")]);

  const { default: defaultName, ...entries } = file.data;
  const problems: Problem[] = [];
  const aliases = new Map<string, Alias>();
  for (const [key, value] of Object.entries(entries)) {
    const entry = parseEntry(key, value, { agents, at });
    problems.push(...entry.problems);
    for (const { name, target, place } of entry.aliases) {
      if (aliases.has(name.toLowerCase())) problems.push(at(place, `alias ${name} is there twice`));
      aliases.set(name.toLowerCase(), { name, target });
    }
  }
  if (aliases.size > MAX_ALIASES) problems.push(at([], `holds more than ${MAX_ALIASES} aliases`));
  const chosen = defaultName === undefined ? undefined : parseDefault(defaultName, agents);
  if (chosen !== undefined && !chosen.ok) problems.push(at(["default"], `default: ${chosen.error}`));
  if (problems.length > 0) return err(problems);
  return ok({ aliases: [...aliases.values()], ...(chosen?.ok && { defaultAgent: chosen.value }) });
};
