import { err, ok, type Json, type Result } from "@shaman/kernel";
import type { ToolSpec } from "@shaman/llm";
import { z } from "zod";
import { invalidInput, specOf } from "./platform-tools.ts";

export const CALL_AGENT = "call_agent";

/** An agent that the model is told it may call. */
export type ListedAgent = {
  readonly name: string;
  readonly description: string;
  /** Of another organization: its description is that one's words. */
  readonly outside?: boolean;
};

const MAX_LISTED = 50;
const MAX_DESCRIPTION_CHARS = 200;

const callAgentInput = z.strictObject({
  agent: z.string().min(1).max(600).describe("Name of the agent"),
  message: z.string().min(1).max(200_000).describe("What it is to do, with everything it has to know for it"),
  answers: z
    .string()
    .max(20)
    .optional()
    .describe("Only to answer an outside agent that asked for something: the name of the call in which it asked"),
});

/** Building a schema takes longer than using it. */
const SPEC = specOf(CALL_AGENT, "", callAgentInput);

/** The tool that calls another agent, with the agents that may be called. */
export const callAgentSpec = (agents: readonly ListedAgent[]): ToolSpec => {
  const lines = agents
    .slice(0, MAX_LISTED)
    .map(({ name, description, outside }) =>
      outside === true
        ? `- ${name} (outside agent; it says of itself: ${JSON.stringify(shorten(description))})`
        : `- ${name}: ${shorten(description)}`,
    );
  const more = agents.length > MAX_LISTED ? [`- and ${agents.length - MAX_LISTED} more, by name`] : [];
  const intro =
    "Gives another agent a task and waits for its result. The agent sees nothing but your message. Several calls at once run side by side. Agents:";
  return { ...SPEC, description: [intro, ...lines, ...more].join("\n") };
};

const shorten = (text: string): string => {
  const line = text.replace(/\s+/g, " ");
  return line.length > MAX_DESCRIPTION_CHARS ? `${line.slice(0, MAX_DESCRIPTION_CHARS)}…` : line;
};

/** What the model asks of whom. An error is meant for the model. */
export const parseCallAgent = (input: Json): Result<z.output<typeof callAgentInput>> => {
  const parsed = callAgentInput.safeParse(input);
  return parsed.success ? ok(parsed.data) : err(invalidInput(parsed.error));
};
