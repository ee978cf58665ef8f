const SEGMENT = /^[A-Za-z0-9_-]{1,64}$/;

/** Words that stand behind an agent's name in URLs, in lower case: an agent called so could not be addressed. */
const RESERVED = new Set(["execute", "tasks", "v1", "extendedagentcard"]);

const MAX_SEGMENTS = 8;

/** What is wrong with one segment of an agent's path, as the end of a sentence that begins with the segment. */
export const findSegmentProblem = (segment: string): string | undefined => {
  if (RESERVED.has(segment.toLowerCase())) return "is reserved: choose another name";
  if (!SEGMENT.test(segment)) return "must be 1 to 64 letters, digits, - or _";
  return undefined;
};

/** What is wrong with an agent's path such as `billing/Refund`. */
export const findPathProblem = (path: string): string | undefined => {
  const segments = path.split("/");
  if (segments.length > MAX_SEGMENTS) return `the agent's path ${path} has more than ${MAX_SEGMENTS} segments`;
  for (const segment of segments) {
    const problem = findSegmentProblem(segment);
    if (problem !== undefined) return `"${segment}" in the agent's path ${problem}`;
  }
  return undefined;
};

export const nameOfPath = (path: string): string => path.slice(path.lastIndexOf("/") + 1);

const PROMPT_FILE = "prompt.md";

/** Whether a file must be an agent because of its name, front matter or not. */
export const isPromptFile = (file: string): boolean => file === PROMPT_FILE || file.endsWith(`/${PROMPT_FILE}`);

/**
 * The path an agent has when it stands in this file: `Name/prompt.md` and `Name.md` are both `Name`. Undefined when the
 * file cannot hold an agent: other endings, folders that begin with a dot, `prompt.md` without a folder to name it.
 */
export const agentPathOfFile = (file: string): string | undefined => {
  if (!file.endsWith(".md") || file.split("/").some((segment) => segment.startsWith("."))) return undefined;
  if (file === PROMPT_FILE) return undefined;
  return isPromptFile(file) ? file.slice(0, -PROMPT_FILE.length - 1) : file.slice(0, -".md".length);
};
