/** Something wrong in a repository; `file` is a path within its registered directory, `line` counts from 1. */
export type Problem = { readonly file: string; readonly line: number; readonly message: string };

/** More problems than anyone reads at once: what is found beyond this many is counted, not kept. */
export const MAX_PROBLEMS = 100;

/** `file:line message`, as compilers print it. */
export const formatProblem = (problem: Problem): string => `${problem.file}:${problem.line} ${problem.message}`;
