import {
  GetPromptResultSchema,
  ListPromptsResultSchema,
  ListResourcesResultSchema,
  ListResourceTemplatesResultSchema,
  ReadResourceResultSchema,
  type ServerCapabilities,
} from "@modelcontextprotocol/sdk/types.js";
import type { JsonObject } from "@shaman/kernel";
import { z } from "zod";
import type { ToolContext, ToolOutcome } from "../tool.ts";
import type { McpConnection } from "./mcp-connection.ts";
import { isMethodNotFound } from "./mcp-failure.ts";
import { failure, listOutcome, promptOutcome, resourceOutcome, type OutputLimits } from "./tool-output.ts";

/** Words in an agent's tool list of a server that ask for more than tools. */
export const RESOURCES = "resources";
export const PROMPTS = "prompts";

type Reading = {
  readonly name: string;
  readonly description: string;
  readonly input: z.ZodType;
  readonly run: (connection: McpConnection, input: JsonObject, context: ToolContext) => Promise<ToolOutcome>;
};

/** A tool of ours that reads what a server has beside its tools. All of them are safe to repeat. */
export type ReadingTool = {
  readonly name: string;
  readonly description: string;
  readonly inputSchema: JsonObject;
  readonly run: Reading["run"];
};

const cursor = z.string().max(2_000).optional().describe("nextCursor of the page before");
const page = z.strictObject({ cursor });
const uri = z.strictObject({ uri: z.string().min(1).max(4_000).describe("The resource's URI") });
const prompt = z.strictObject({
  name: z.string().min(1).max(500).describe("The prompt's name"),
  arguments: z.record(z.string(), z.string().max(20_000)).default({}).describe("What the prompt asks for, by name"),
});

const paged = (input: z.infer<typeof page>) => (input.cursor === undefined ? {} : { params: { cursor: input.cursor } });

const define = <T>(
  spec: { readonly name: string; readonly description: string; readonly input: z.ZodType<T> },
  run: (connection: McpConnection, input: T, context: ToolContext) => Promise<ToolOutcome>,
): ReadingTool => {
  const { $schema: _dialect, ...schema } = z.toJSONSchema(spec.input, { io: "input" });
  return {
    name: spec.name,
    description: spec.description,
    inputSchema: z.record(z.string(), z.json()).parse(schema),
    run: async (connection, input, context) => {
      const parsed = spec.input.safeParse(input);
      if (!parsed.success) return failure(`The input does not fit: ${z.prettifyError(parsed.error).slice(0, 500)}`);
      return run(connection, parsed.data, context);
    },
  };
};

const resourceTools = (limits: OutputLimits): readonly ReadingTool[] => [
  define(
    {
      name: "list_resources",
      description: "Lists the resources that can be read, and templates of their URIs.",
      input: page,
    },
    async (connection, input, context) => {
      const resources = await connection.request(
        { method: "resources/list", ...paged(input) },
        ListResourcesResultSchema,
        context,
      );
      const templates = await connection
        .request({ method: "resources/templates/list" }, ListResourceTemplatesResultSchema, context)
        .catch((error: unknown) => {
          if (isMethodNotFound(error)) return { resourceTemplates: [] };
          throw error;
        });
      const { nextCursor } = resources;
      const { resourceTemplates } = templates;
      return listOutcome({ resources: resources.resources, resourceTemplates, nextCursor }, limits);
    },
  ),
  define(
    { name: "read_resource", description: "Reads a resource by its URI.", input: uri },
    async (connection, input, context) =>
      resourceOutcome(
        await connection.request({ method: "resources/read", params: input }, ReadResourceResultSchema, context),
        limits,
      ),
  ),
];

const promptTools = (limits: OutputLimits): readonly ReadingTool[] => [
  define(
    {
      name: "list_prompts",
      description: "Lists the prompts that the server offers, with their arguments.",
      input: page,
    },
    async (connection, input, context) => {
      const list = await connection.request(
        { method: "prompts/list", ...paged(input) },
        ListPromptsResultSchema,
        context,
      );
      return listOutcome({ prompts: list.prompts, nextCursor: list.nextCursor }, limits);
    },
  ),
  define(
    { name: "get_prompt", description: "Gets one of the server's prompts, filled in.", input: prompt },
    async (connection, input, context) =>
      promptOutcome(
        await connection.request({ method: "prompts/get", params: input }, GetPromptResultSchema, context),
        limits,
      ),
  ),
];

/** The tools by which an agent that asks for them reads a server's resources and prompts; and what the server lacks. */
export const readingTools = (
  asked: readonly string[],
  capabilities: ServerCapabilities,
  limits: OutputLimits,
): { readonly tools: readonly ReadingTool[]; readonly problems: readonly string[] } => {
  const kinds = [
    { word: RESOURCES, isOffered: capabilities.resources !== undefined, tools: resourceTools },
    { word: PROMPTS, isOffered: capabilities.prompts !== undefined, tools: promptTools },
  ].filter(({ word }) => asked.includes(word));
  return {
    tools: kinds.flatMap(({ isOffered, tools }) => (isOffered ? tools(limits) : [])),
    problems: kinds.flatMap(({ word, isOffered }) => (isOffered ? [] : [`has no ${word}`])),
  };
};
