import type { CallToolResult } from "@modelcontextprotocol/sdk/types.js";
import type { ToolSelection } from "@shaman/agents";
import type { Db } from "@shaman/db";
import { compileJsonSchema, findJsonSchemaProblem } from "@shaman/json-schema";
import type { JsonObject } from "@shaman/kernel";
import { recordSighting, type SeenBy, type ToolStanding } from "@shaman/mcp";
import type { ToolContext, ToolOutcome } from "../tool.ts";
import type { McpConnection, McpToolDescription, McpToolList } from "./mcp-connection.ts";
import { failureSentence } from "./mcp-failure.ts";
import type { McpLimits } from "./mcp-limits.ts";
import type { McpSession } from "./mcp-session.ts";
import { PROMPTS, readingTools, RESOURCES } from "./reading-tools.ts";
import type { ResolvedServer } from "./resolve-server.ts";
import { failure, toolOutcome, type OutputLimits } from "./tool-output.ts";

export type ServerToolsDeps = { readonly db: Pick<Db, "withOrg">; readonly limits: McpLimits };

/** One server as one agent uses it. */
export type OpenServer = {
  readonly orgId: string;
  /** What the agent file calls it. */
  readonly name: string;
  readonly resolved: ResolvedServer;
  readonly selection: ToolSelection;
  readonly session: McpSession;
  readonly seenBy: SeenBy;
};

/** A tool before it has the name that a model is offered. */
export type ServerTool = {
  readonly originalName: string;
  readonly description: string;
  readonly inputSchema: JsonObject;
  readonly repeatable: boolean;
  readonly run: (input: JsonObject, context: ToolContext) => Promise<ToolOutcome>;
};

export type ServerTools = { readonly tools: readonly ServerTool[]; readonly problems: readonly string[] };

const MAX_DEFINITION_BYTES = 64 * 1024;
const MAX_INPUT_BYTES = 256 * 1024;

type Standings = ReadonlyMap<string, ToolStanding>;

const look = async (
  deps: ServerToolsDeps,
  server: OpenServer,
  tools: readonly McpToolDescription[],
): Promise<Standings> => {
  const { orgId, resolved, seenBy } = server;
  return recordSighting(deps, { orgId, source: resolved.source, tools: tools.filter(isOfBearableSize), by: seenBy });
};

const isOfBearableSize = ({ name, definition }: McpToolDescription): boolean =>
  name.length <= 256 && Buffer.byteLength(JSON.stringify(definition)) <= MAX_DEFINITION_BYTES;

/** Why a tool cannot be used, as the end of a sentence that begins with it; nothing when it can. */
const obstacle = (tool: McpToolDescription, standing: ToolStanding | undefined): string | undefined => {
  if (!isOfBearableSize(tool)) return `is described at more length than ${MAX_DEFINITION_BYTES / 1024} kB`;
  switch (standing) {
    case "changed":
      return "has changed since it was approved, and is off until somebody approves it again";
    case undefined:
    case "new":
      return "is new, and is off until somebody approves it";
    case "approved": {
      const problem = findJsonSchemaProblem(tool.inputSchema);
      return problem === undefined ? undefined : `has an input schema that ${problem}`;
    }
  }
};

const isAsked = (selection: ToolSelection, name: string): boolean =>
  selection === "*" || selection.includes("*") || selection.includes(name);

const askedByName = (selection: ToolSelection): readonly string[] => (selection === "*" ? [] : selection);

/** What an answer breaks of the schema that its server promised, as a sentence. What is too large is left out anyway. */
const brokenPromise = (schema: JsonObject, result: CallToolResult, limits: OutputLimits): string | undefined => {
  if (result.isError === true) return undefined;
  if (result.structuredContent === undefined) return "The tool promised structured content and gave none.";
  const text = JSON.stringify(result.structuredContent);
  if (Buffer.byteLength(text) > limits.maxOutputBytes) return undefined;
  const validate = compileJsonSchema(schema);
  if (!validate.ok) return `The tool's answer cannot be checked: its output schema ${validate.error}.`;
  const problems = validate.value(JSON.parse(text));
  return problems.length === 0 ? undefined : `The tool's answer does not fit its own schema: ${problems.join("; ")}`;
};

/** Calls, and checks what comes back against what the server promised. */
const call = async (
  deps: ServerToolsDeps,
  at: { readonly connection: McpConnection; readonly tool: McpToolDescription; readonly input: JsonObject },
  context: ToolContext,
): Promise<ToolOutcome> => {
  const { connection, tool, input } = at;
  const result = await connection.callTool(tool.name, input, context);
  const problem = tool.outputSchema === undefined ? undefined : brokenPromise(tool.outputSchema, result, deps.limits);
  return problem === undefined ? toolOutcome(result, deps.limits) : failure(problem);
};

/** Errors are told to the model, but for an abort of ours. */
const guarded = async (context: ToolContext, work: () => Promise<ToolOutcome>): Promise<ToolOutcome> => {
  context.signal.throwIfAborted();
  try {
    return await work();
  } catch (error) {
    if (context.signal.aborted) throw context.signal.reason;
    return failure(failureSentence(error));
  }
};

/** A tool that may be used, and the list in which it was seen. */
type Approved = { readonly tool: McpToolDescription; readonly list: McpToolList };

const toolOf = (deps: ServerToolsDeps, server: OpenServer, approved: Approved): ServerTool => {
  const { tool } = approved;
  const definition = JSON.stringify(tool.definition);
  let { list } = approved;
  let validator: ReturnType<typeof compileJsonSchema> | undefined;

  /** Whether the tool is still what was approved: a server may change its list, and a lost session be another server's. */
  const isUnchanged = async (connection: McpConnection, context: ToolContext): Promise<boolean> => {
    const now = await connection.listTools(context.signal);
    if (now === list) return true;
    await look(deps, server, now.tools);
    const again = now.tools.find(({ name }) => name === tool.name);
    if (again === undefined || JSON.stringify(again.definition) !== definition) return false;
    list = now;
    return true;
  };

  return {
    originalName: tool.name,
    description: tool.description,
    inputSchema: tool.inputSchema,
    repeatable: tool.annotations.readOnlyHint === true || tool.annotations.idempotentHint === true,
    run: (input, context) =>
      guarded(context, async () => {
        if (Buffer.byteLength(JSON.stringify(input)) > MAX_INPUT_BYTES) {
          return failure(`The input is larger than ${MAX_INPUT_BYTES / 1024} kB.`);
        }
        validator ??= compileJsonSchema(tool.inputSchema);
        if (!validator.ok) return failure(`The tool's input schema ${validator.error}.`);
        const problems = validator.value(input);
        if (problems.length > 0) return failure(`The input does not fit the tool's schema: ${problems.join("; ")}`);
        return server.session.use(async (connection) => {
          if (await isUnchanged(connection, context)) return call(deps, { connection, tool, input }, context);
          return failure("The tool is gone or has changed since it was approved, and was not called.");
        }, context.signal);
      }),
  };
};

/** What an agent may use of one server, and why it may not use what else it asked for. Rejects when there is no server. */
export const openServerTools = async (
  deps: ServerToolsDeps,
  server: OpenServer,
  signal: AbortSignal,
): Promise<ServerTools> => {
  const { selection, session } = server;
  return session.use(async (connection) => {
    const hasTools = connection.capabilities.tools !== undefined;
    const list: McpToolList = hasTools ? await connection.listTools(signal) : { tools: [], problems: [] };
    const standings = hasTools ? await look(deps, server, list.tools) : new Map<string, ToolStanding>();
    const asked = list.tools.filter(({ name }) => isAsked(selection, name));
    const offered = new Set(list.tools.map(({ name }) => name));
    const missing = askedByName(selection).filter(
      (name) => !offered.has(name) && name !== "*" && name !== RESOURCES && name !== PROMPTS,
    );
    const usable: McpToolDescription[] = [];
    const off: string[] = [];
    for (const tool of asked) {
      const problem = obstacle(tool, standings.get(tool.name));
      if (problem === undefined) usable.push(tool);
      else off.push(`The tool ${tool.name.slice(0, 128)} of the MCP server ${server.name} ${problem}.`);
    }
    const reading = readingTools(askedByName(selection), connection.capabilities, deps.limits);
    const tools = usable.map((tool) => toolOf(deps, server, { tool, list }));
    const readers = reading.tools.map((tool): ServerTool => ({
      originalName: tool.name,
      description: tool.description,
      inputSchema: tool.inputSchema,
      repeatable: true,
      run: (input, context) =>
        guarded(context, () => session.use((open) => tool.run(open, input, context), context.signal)),
    }));
    // A server's own tool of the same name comes first; the reader of that name is then not needed to tell them apart.
    const taken = new Set(tools.map(({ originalName }) => originalName));
    return {
      tools: [...tools, ...readers.filter(({ originalName }) => !taken.has(originalName))],
      problems: [
        ...off,
        ...missing.map((name) => `The MCP server ${server.name} has no tool ${name}.`),
        ...[...list.problems, ...reading.problems].map((problem) => `The MCP server ${server.name} ${problem}.`),
      ],
    };
  }, signal);
};
