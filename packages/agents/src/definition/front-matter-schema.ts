import { compileJsonSchema } from "@shaman/json-schema";
import { z } from "zod";

import { PLATFORM_TOOLS, type McpServerUse } from "./agent-definition.ts";
import { MAXIMUM_LIMITS, type CompleteLimits } from "./agent-limits.ts";
import { didYouMean } from "./near-name.ts";
import type { KnownKeys } from "./yaml-file.ts";

const MAX_LIST = 64;

const shortText = (max: number): z.ZodString =>
  z
    .string({ error: "must be a text" })
    .trim()
    .min(1, "must not be empty")
    .max(max, `must have at most ${max} characters`);
const listOf = <T extends z.ZodType>(item: T): z.ZodArray<T> =>
  z.array(item, { error: "must be a list" }).max(MAX_LIST, `must have at most ${MAX_LIST} entries`);

const toolName = z
  .string({ error: "must be the name of a tool" })
  .regex(/^[A-Za-z0-9_.:/-]{1,128}$/, "must be the name of a tool: letters, digits and _ . : / -");
const serverName = z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, "a server's name must be 1 to 64 letters, digits, - or _");
const tag = z.string({ error: "must be a text" }).regex(/^[^\p{C}]{1,64}$/u, "must have 1 to 64 characters");

const yesNo = z.boolean({ error: "must be true or false" });

const UNIT_SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600, d: 86_400 };
const MAX_CACHE_SECONDS = 30 * 86_400;
const cacheForm = "must be how long an answer may be used again, such as 30s, 10m, 12h or 7d (at most 30d), or false";

const cache = z.union([z.literal(false), z.string()], { error: cacheForm }).transform((text, context) => {
  if (text === false) return { seconds: 0 };
  const [, count, unit] = /^(\d{1,7})([smhd])$/.exec(text) ?? [];
  const seconds = Number(count) * (UNIT_SECONDS[unit ?? ""] ?? Number.NaN);
  if (seconds > 0 && seconds <= MAX_CACHE_SECONDS) return { seconds };
  context.addIssue({ code: "custom", message: cacheForm });
  return z.NEVER;
});

const skill = z.strictObject({
  id: z
    .string({ error: "must be a text" })
    .regex(/^[A-Za-z0-9_.-]{1,64}$/, "must be 1 to 64 letters, digits and _ . -"),
  name: shortText(128),
  description: shortText(2_000),
  tags: listOf(tag).default([]),
  examples: listOf(shortText(1_000)).default([]),
});

/** `resources` and `prompts` in a list ask for reading those; `"*"` in it is every tool. */
const selectedName = z.union([z.literal("*"), toolName], {
  error: "must be the name of a tool: letters, digits and _ . : / -",
});

const toolSelection = z.union([z.literal("*"), listOf(selectedName)], { error: 'must be "*" or a list of tool names' });

const PROGRAM_KEYS = ["command", "args", "env", "cwd"];
const serverForm = 'must be "*", a list of tool names, {catalogue, parameters, tools} or {url, transport, tools}';

const httpUrl = shortText(2_000).refine((text) => {
  const url = URL.parse(text);
  return (
    url !== null &&
    (url.protocol === "https:" || url.protocol === "http:") &&
    url.username === "" &&
    url.password === ""
  );
}, "must be an http(s) address without a user name or password in it");

const mcpServer = z.union(
  [
    toolSelection.transform((tools): McpServerUse => ({ kind: "registered", tools })),
    z
      .strictObject({
        catalogue: serverName,
        parameters: z.record(z.string(), z.json()).default({}),
        tools: toolSelection.default("*"),
      })
      .transform((use): McpServerUse => ({ kind: "catalogue", ...use })),
    z
      .strictObject({
        url: httpUrl,
        transport: z.enum(["streamable-http", "sse"]).default("streamable-http"),
        tools: toolSelection.default("*"),
      })
      .transform((use): McpServerUse => ({ kind: "inline", ...use })),
  ],
  {
    error: (issue) => {
      const input: unknown = issue.input;
      const program =
        typeof input === "object" && input !== null ? PROGRAM_KEYS.find((key) => Object.hasOwn(input, key)) : undefined;
      return program === undefined
        ? serverForm
        : `"${program}" is not accepted: programs come from the operator's catalogue ({catalogue: name, parameters: {…}})`;
    },
  },
);

const platformTool = z.enum(PLATFORM_TOOLS, {
  error: (issue) => {
    const wanted = String(issue.input);
    return `must be one of ${PLATFORM_TOOLS.join(", ")}.${didYouMean(wanted, PLATFORM_TOOLS)}`;
  },
});

const calleeName = z
  .string({ error: "must be the name of an agent" })
  .regex(
    /^(?:[A-Za-z0-9_-]{1,64}:)?[A-Za-z0-9_-]{1,64}(?:\/[A-Za-z0-9_-]{1,64}){0,7}$/,
    "must be the name of an agent: Name, path/Name or repository:path/Name",
  );

const jsonSchema = z.json({ error: "must be a JSON Schema" }).superRefine((schema, context) => {
  const compiled = compileJsonSchema(schema);
  if (!compiled.ok) context.addIssue({ code: "custom", message: compiled.error });
});

const upTo = (maximum: number, kind: "whole" | "any"): z.ZodNumber => {
  const error = `must be ${kind === "whole" ? "a whole number" : "a number"} above 0, at most ${maximum} on this installation`;
  const number = kind === "whole" ? z.int({ error }) : z.number({ error });
  return number.positive(error).max(maximum, error);
};

const limitsSchema = (maximum: CompleteLimits) =>
  z.strictObject({
    maxSteps: upTo(maximum.maxSteps, "whole").optional(),
    maxToolCalls: upTo(maximum.maxToolCalls, "whole").optional(),
    maxDepth: upTo(maximum.maxDepth, "whole").optional(),
    maxTokens: upTo(maximum.maxTokens, "whole").optional(),
    maxCostUsd: upTo(maximum.maxCostUsd, "any").optional(),
    timeoutSeconds: upTo(maximum.timeoutSeconds, "whole").optional(),
  });

const retry = z.strictObject({
  maxAttempts: z
    .int({ error: "must be a whole number" })
    .min(1, "must be 1 to 20")
    .max(20, "must be 1 to 20")
    .optional(),
  backoffSeconds: z
    .number({ error: "must be a number" })
    .min(0, "must be 0 to 86400")
    .max(86_400, "must be 0 to 86400")
    .optional(),
});

const buildSchema = (maximum: CompleteLimits) =>
  z.strictObject(
    {
      name: z.string({ error: "must be a text" }).optional(),
      description: z
        .string({
          error: (issue) =>
            issue.input === undefined ? "is missing: say in a sentence what the agent does" : "must be a text",
        })
        .trim()
        .min(1, "must not be empty")
        .max(4_000, "must have at most 4000 characters"),
      exposed: yesNo.default(false),
      version: z
        .string({ error: 'must be a text: put it in quotes, such as "1.0"' })
        .regex(/^[^\p{C}]{1,64}$/u, "must have 1 to 64 characters")
        .optional(),
      tags: listOf(tag).default([]),
      model: z
        .string({ error: "must be a text" })
        .regex(
          /^[A-Za-z0-9_][A-Za-z0-9_.:@/-]{0,199}$/,
          "must be provider/model, scripted/<file.yaml>, or an alias of the organization",
        )
        .optional(),
      temperature: z.number({ error: "must be a number" }).min(0, "must be 0 to 2").max(2, "must be 0 to 2").optional(),
      cache: cache.optional(),
      skills: listOf(skill).default([]),
      tools: listOf(platformTool).default([]),
      mcpServers: z
        .record(serverName, mcpServer, { error: "must be a map from the name of a server to its tools" })
        .default({}),
      limits: limitsSchema(maximum).default({}),
      approval: listOf(toolName).default([]),
      repeatable: listOf(toolName).default([]),
      calls: listOf(calleeName).default([]),
      deduplicate: yesNo.default(true),
      memory: z.literal("context", { error: 'can only be "context"' }).optional(),
      priority: z
        .int({ error: "must be a whole number from 1 to 5" })
        .min(1, "must be 1 to 5")
        .max(5, "must be 1 to 5")
        .optional(),
      retry: retry.default({}),
      input: jsonSchema.optional(),
      output: jsonSchema.optional(),
    },
    { error: "front matter must be a map of keys and values" },
  );

type FrontMatterSchema = ReturnType<typeof buildSchema>;

/** Building a schema takes longer than using it, and a sync uses one a thousand times. */
const built = new WeakMap<CompleteLimits, FrontMatterSchema>();

/** The front matter of an agent file; `maximum` is what its `limits` may ask for. */
export const frontMatterSchema = (maximum: CompleteLimits): FrontMatterSchema => {
  const known = built.get(maximum);
  if (known !== undefined) return known;
  const schema = buildSchema(maximum);
  built.set(maximum, schema);
  return schema;
};

export type FrontMatterValues = z.infer<FrontMatterSchema>;

/** The keys the format has, for suggestions. */
export const FRONT_MATTER_KEYS: KnownKeys = {
  "": Object.keys(frontMatterSchema(MAXIMUM_LIMITS).shape),
  limits: Object.keys(MAXIMUM_LIMITS),
  retry: Object.keys(retry.shape),
  skills: Object.keys(skill.shape),
};
