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
  /** Whether the minimum is the maximum too. */
  readonly exact?: boolean;
  readonly values?: readonly unknown[];
  readonly keys?: readonly string[];
  readonly pattern?: string;
  readonly format?: string;
  /** Of a key or an element that does not fit. */
  readonly issues?: readonly Issue[];
  /** What each form refuses, where one of several was wanted. */
  readonly errors?: readonly (readonly Issue[])[];
  /** What `kind`, or what else tells the forms apart, may be. */
  readonly options?: readonly unknown[];
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
  if (unit !== undefined && issue.exact === true) return `must have exactly ${limit} ${unit}`;
  if (unit !== undefined && least && limit === "1") return "must not be empty";
  if (unit !== undefined) return `must have at ${least ? "least" : "most"} ${limit} ${unit}`;
  if (issue.inclusive === false) return `must be ${least ? "more" : "less"} than ${limit}`;
  return `must be at ${least ? "least" : "most"} ${limit}`;
};

const EXAMPLES: Readonly<Record<string, string>> = {
  datetime: "a time such as 2027-01-31T12:00:00Z",
  date: "a date such as 2027-01-31",
};

const format = ({ format: name = "", pattern }: Issue): string => {
  if (name === "regex" && pattern !== undefined) return `must fit ${pattern}`;
  return `must be ${EXAMPLES[name] ?? `a valid ${name === "" ? "value" : name}`}`;
};

const oneOf = (values: readonly unknown[]): string =>
  `must be ${values.map(String).join(", ")}`.replace(/, ([^,]*)$/, " or $1");

const oneForm = (forms: readonly (readonly Issue[])[]): string => {
  const refusals = new Set(forms.map(describeIssues));
  if (refusals.has("is missing")) return "is missing";
  return [...refusals].join(", or ").replace(/^$/, "is not as it must be");
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
      return oneOf(issue.values ?? []);
    case "invalid_format":
      return format(issue);
    case "unrecognized_keys":
      return `does not know ${(issue.keys ?? []).join(", ")}`;
    case "invalid_key":
    case "invalid_element":
    case "invalid_union":
      return issue.options === undefined ? oneForm(issue.errors ?? [issue.issues ?? []]) : oneOf(issue.options);
    default:
      return "is not as it must be";
  }
};

const placeOf = (path: readonly PropertyKey[]): string =>
  path.reduce<string>((place, part) => {
    if (typeof part === "number") return `${place}[${part}]`;
    return place === "" ? String(part) : `${place}.${String(part)}`;
  }, "");

/** Where just one of several forms fits but for something inside, that one was meant: what is wrong inside it. */
const meant = (issue: Issue): readonly Issue[] => {
  if (!LIBRARY_WORDS.test(issue.message)) return [issue];
  const [form, ...others] = (issue.errors ?? []).filter((each) => each.every(({ path }) => path.length > 0));
  if (form === undefined || others.length > 0) return [issue];
  return form.flatMap((inner) => meant({ ...inner, path: [...issue.path, ...inner.path] }));
};

/** What schemas found, in a sentence for whoever gave the input: each place with what it must be. */
export const describeIssues = (issues: readonly Issue[]): string => {
  const found = issues.flatMap(meant).map((issue) => {
    const place = placeOf(issue.path);
    const words = issueWords(issue);
    return place !== "" ? `${place}: ${words}` : words.startsWith("does not know") ? `it ${words}` : words;
  });
  return [...new Set(found)].join("; ");
};

/** `invalid_input` with what a schema found, in one sentence. */
export const invalidInput = (error: { readonly issues: readonly Issue[] }): AppError =>
  userError("invalid_input", `${describeIssues(error.issues)}.`);
