import { didYouMean } from "../definition/near-name.ts";
import type { AgentHead, ParsedAgent } from "../definition/parse-definition.ts";
import { MAX_PROBLEMS, type Problem } from "../definition/problem.ts";
import type { Alias } from "./parse-agents-json.ts";

/** A name under `calls` that means nothing within the repository, and where it stands. */
export type CallElsewhere = { readonly name: string; readonly file: string; readonly line: number };

type Within = { readonly agents: readonly ParsedAgent[]; readonly aliases: readonly Alias[] };

/** The names by which agents of one repository call each other. */
export const namesWithin = ({ agents, aliases }: Within): readonly string[] => [
  ...agents.flatMap(({ definition: { name, path } }) => (name === path ? [name] : [name, path])),
  ...aliases.map(({ name }) => name),
];

/** What the agents of a repository say that they call outside of it. */
export const callsElsewhere = (heads: readonly AgentHead[], within: Within): readonly CallElsewhere[] => {
  const own = new Set(namesWithin(within));
  return heads.flatMap(({ values, at }) =>
    values.calls.flatMap((name, index) => {
      if (own.has(name)) return [];
      const { file, line } = at(["calls", index], "");
      return [{ name, file, line }];
    }),
  );
};

/**
 * Warnings of names that nobody is known by: agents that are called may come later. `known` are names somebody may have
 * meant; `consequence` is the sentence behind them.
 */
export const missingCalls = (
  calls: readonly CallElsewhere[],
  { known, consequence }: { readonly known: readonly string[]; readonly consequence: string },
): readonly Problem[] =>
  calls.slice(0, MAX_PROBLEMS).map(({ name, file, line }) => ({
    file,
    line,
    message: `calls: there is no agent ${name} ${consequence}.${didYouMean(name, known)}`,
    severity: "warning",
  }));
