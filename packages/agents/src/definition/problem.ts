/** Something wrong in a repository; `file` is a path within its registered directory, `line` counts from 1. */
export type Problem = {
  readonly file: string;
  readonly line: number;
  readonly message: string;
  /** Set where the repository is taken all the same; any other problem refuses it. */
  readonly severity?: "warning";
};

/** More problems than anyone reads at once: what is found beyond this many is counted, not kept. */
export const MAX_PROBLEMS = 100;

/** `file:line message`, as compilers print it. */
export const formatProblem = ({ file, line, message, severity }: Problem): string =>
  `${file}:${line} ${severity === undefined ? "" : `${severity}: `}${message}`;
