import { userError, type AppError } from "./app-error.ts";

/** What zod finds wrong in one place. */
type Issue = {
  readonly code?: string | undefined;
  readonly path: readonly PropertyKey[];
  readonly message: string;
  readonly expected?: string;
  readonly origin?: string;
  readonly minimum?: number | bigint;
  readonly maximum?: number | bigint;
  readonly inclusive?: boolean;
  readonly values?: readonly unknown[];
  readonly keys?: readonly string[];
  readonly pattern?: string;
  readonly format?: string;
  /** Of a key or an element that does not fit. */
  readonly issues?: readonly Issue[];
  /** What each form refuses, where one of several was wanted. */
  readonly errors?: readonly (readonly Issue[])[];
};

/** The library's own words; a schema that has something better to say says it itself. */
const LIBRARY_WORDS = /^(?:Invalid |Too (?:big|small): |Unrecognized key)/;

const KINDS: Readonly<Record<string, string>> = {
  string: "text",
  number: "a number",
  int: "a whole number",
  boolean: "true or false",
  array: "a list",
  object: "an object",
  record: "an object",
  date: "a time",
};

const UNITS: Readonly<Record<string, string>> = { string: "characters", array: "entries", set: "entries" };

const bound = (issue: Issue, least: boolean): string => {
  const limit = String(least ? issue.minimum : issue.maximum);
  const unit = UNITS[issue.origin ?? ""];
  if (unit !== undefined) return `must have at ${least ? "least" : "most"} ${limit} ${unit}`;
  if (issue.inclusive === false) return `must be ${least ? "more" : "less"} than ${limit}`;
  return `must be at ${least ? "least" : "most"} ${limit}`;
};

/** What must be otherwise in this place, without the place. */
export const issueWords = (issue: Issue): string => {
  if (!LIBRARY_WORDS.test(issue.message)) return issue.message;
  switch (issue.code) {
    case "invalid_type":
      return issue.message.endsWith("received undefined")
        ? "is missing"
        : `must be ${KINDS[issue.expected ?? ""] ?? issue.expected ?? "of another kind"}`;
    case "too_small":
      return bound(issue, true);
    case "too_big":
      return bound(issue, false);
    case "invalid_value":
      return `must be ${(issue.values ?? []).map(String).join(", ")}`.replace(/, ([^,]*)$/, " or $1");
    case "invalid_format":
      return issue.pattern === undefined ? `must be a valid ${issue.format ?? "value"}` : `must fit ${issue.pattern}`;
    case "unrecognized_keys":
      return `does not know ${(issue.keys ?? []).join(", ")}`;
    case "invalid_key":
    case "invalid_element":
    case "invalid_union":
      return [...new Set((issue.errors ?? [issue.issues ?? []]).flatMap((form) => form.slice(0, 1).map(issueWords)))]
        .join(", or ")
        .replace(/^$/, "is not as it must be");
    default:
      return "is not as it must be";
  }
};

const placeOf = (path: readonly PropertyKey[]): string =>
  path.reduce<string>((place, part) => {
    if (typeof part === "number") return `${place}[${part}]`;
    return place === "" ? String(part) : `${place}.${String(part)}`;
  }, "");

/** What schemas found, in a sentence for whoever gave the input: each place with what it must be. */
export const describeIssues = (issues: readonly Issue[]): string => {
  const found = issues.map((issue) => {
    const place = placeOf(issue.path);
    const words = issueWords(issue);
    return place !== "" ? `${place}: ${words}` : words.startsWith("does not know") ? `it ${words}` : words;
  });
  return [...new Set(found)].join("; ");
};

/** `invalid_input` with what a schema found, in one sentence. */
export const invalidInput = (error: { readonly issues: readonly Issue[] }): AppError =>
  userError("invalid_input", `${describeIssues(error.issues)}.`);
