import type { Json, JsonObject } from "@shaman/kernel";
import type { ToolSpec } from "@shaman/llm";

/** One piece of what a tool gave back. Data, never instructions: whoever feeds it to a model marks it so. */
export type ToolContent =
  | { readonly type: "text"; readonly text: string }
  | { readonly type: "image"; readonly mediaType: string; readonly base64: string }
  | {
      readonly type: "resource";
      readonly uri: string;
      readonly mediaType?: string;
      readonly text?: string;
      readonly base64?: string;
    };

export type ToolOutcome = {
  readonly content: readonly ToolContent[];
  readonly structured?: Json;
  /** The tool itself reported a failure; the model is told and may go on. */
  readonly isError: boolean;
};

/** What a running tool tells on its way; shown in the run. */
export type ToolNotice =
  | { readonly kind: "progress"; readonly progress: number; readonly total?: number; readonly message?: string }
  | { readonly kind: "log"; readonly level: string; readonly message: string };

export type ToolContext = {
  readonly signal: AbortSignal;
  readonly notice: (notice: ToolNotice) => void;
};

/** A tool as the model is offered it and as the engine runs it. */
export type Tool = {
  /** `name` is unique within the agent's tools and fits every provider: [A-Za-z0-9_-]{1,64}. */
  readonly spec: ToolSpec;
  /** The MCP server it belongs to, for audit; absent for the platform's own. */
  readonly server?: string;
  /** What the tool is called where it lives; `approval:` and `repeatable:` of the front matter may use either name. */
  readonly originalName: string;
  /** Safe to do again after a crash: recorded when done. Any other is recorded as started, under the lease, before it runs. */
  readonly repeatable: boolean;
  /** Input is already a JSON object; the tool validates it by its schema and answers a wrong one with isError. Rejects only when aborted or for a fault of ours. */
  readonly run: (input: JsonObject, context: ToolContext) => Promise<ToolOutcome>;
};

/** The tools of one run of one agent. */
export type ToolSet = {
  readonly tools: readonly Tool[];
  /** Servers or tools that are not available, each a sentence for the run's events (unreachable, refused, waits for approval). */
  readonly problems: readonly string[];
  readonly close: () => Promise<void>;
};
