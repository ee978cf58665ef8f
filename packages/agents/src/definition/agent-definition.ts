import type { Json, JsonObject } from "@shaman/kernel";

/** Tools of the platform itself that an agent may ask for in its front matter. */
export const PLATFORM_TOOLS = ["write_artifact", "request_input", "run_data_write", "run_data_read"] as const;
export type PlatformTool = (typeof PLATFORM_TOOLS)[number];

/** What one run of an agent may use at most. An absent field means the organization's default. */
export type AgentLimits = {
  readonly maxSteps?: number;
  readonly maxToolCalls?: number;
  readonly maxDepth?: number;
  readonly maxTokens?: number;
  readonly maxCostUsd?: number;
  readonly timeoutSeconds?: number;
};

/** A skill as the Agent Card shows it. */
export type AgentSkill = {
  readonly id: string;
  readonly name: string;
  readonly description: string;
  readonly tags: readonly string[];
  readonly examples: readonly string[];
};

/** Which tools of an MCP server an agent may use; `"*"` is all, also in a list, where `resources` and `prompts` ask for those. */
export type ToolSelection = "*" | readonly string[];

export type McpServerUse =
  | { readonly kind: "registered"; readonly tools: ToolSelection }
  | {
      readonly kind: "catalogue";
      readonly catalogue: string;
      readonly parameters: JsonObject;
      readonly tools: ToolSelection;
    }
  | {
      readonly kind: "inline";
      readonly url: string;
      readonly transport: "streamable-http" | "sse";
      readonly tools: ToolSelection;
    };

export type AgentRetry = { readonly maxAttempts?: number; readonly backoffSeconds?: number };

/** A piece of the system prompt: literal text, or the place where the caller's prompt goes. */
export type PromptSegment = { readonly kind: "text"; readonly text: string } | { readonly kind: "prompt" };

/** One agent as its file defines it, checked and with everything it includes. Immutable for a commit. */
export type AgentDefinition = {
  /** Folder path and name within the repository's registered directory: `billing/Refund`. */
  readonly path: string;
  /** The last segment of `path`. */
  readonly name: string;
  /** The file it stands in: `billing/Refund.md` or `billing/Refund/prompt.md`. */
  readonly file: string;
  readonly description: string;
  readonly exposed: boolean;
  readonly version?: string;
  readonly tags: readonly string[];
  /** `provider/model`, `scripted/<file>` or an alias of the organization; absent means the organization's default. */
  readonly model?: string;
  readonly temperature?: number;
  /** How long a model's answer may be used again for the same question; 0 is never, absent what the organization says. */
  readonly cache?: { readonly seconds: number };
  readonly skills: readonly AgentSkill[];
  readonly tools: readonly PlatformTool[];
  readonly mcpServers: Readonly<Record<string, McpServerUse>>;
  readonly limits: AgentLimits;
  /** Names of tools that wait for a person. */
  readonly approval: readonly string[];
  /** Names of tools that may be called again when the outcome of a call is unknown. */
  readonly repeatable: readonly string[];
  /** Agents it may call beyond its own repository's; absent means its repository's only. */
  readonly calls: readonly string[];
  /** False: callers of this agent may reuse a message id. */
  readonly deduplicate: boolean;
  /** `context`: earlier tasks of the same context are part of the conversation. */
  readonly memory?: "context";
  /** 1 is served first, 5 last. */
  readonly priority?: number;
  readonly retry: AgentRetry;
  /** JSON Schemas of what goes in and comes out. */
  readonly input?: Json;
  readonly output?: Json;
  /** The body of the file with its includes, cut once at each `{{prompt}}`. */
  readonly template: readonly PromptSegment[];
  /** Whether `{{prompt}}` occurs. Where it does not, the body is the system prompt and the prompt is the user's message. */
  readonly usesPrompt: boolean;
  /** The script of a `scripted/*` model: its path within the repository, and its text. */
  readonly script?: { readonly file: string; readonly text: string };
};

/**
 * The system prompt of an agent for one caller's prompt. The prompt is put in as it is: markers inside it are not
 * expanded, because the template was cut before the prompt was known.
 */
export const renderPrompt = (definition: Pick<AgentDefinition, "template">, prompt: string): string => {
  let rendered = "";
  for (const segment of definition.template) rendered += segment.kind === "text" ? segment.text : prompt;
  return rendered;
};
