import type { Json, JsonObject } from "@shaman/kernel";

/** Agent files whose scripted models call other agents. */

type ScriptedCall = { readonly name: string; readonly input: JsonObject & { readonly agent: string } };
type ScriptedTurn = {
  readonly match?: JsonObject;
  readonly text?: string;
  readonly toolCalls?: readonly ScriptedCall[];
};
type Files = Readonly<Record<string, string>>;

/** A call of another agent, as a model makes it. */
export const callOf = (agent: string, message: string, more: JsonObject = {}): ScriptedCall => ({
  name: "call_agent",
  input: { agent, message, ...more },
});

/** What the model says when one of the results has the text. */
export const onResult = (toolResult: Json, text: string): ScriptedTurn => ({ match: { toolResult }, text });

/** An agent with these lines in its front matter, whose model takes these turns. */
export const scriptedAgent = (name: string, frontMatter: string, turns: readonly ScriptedTurn[]): Files => ({
  [`${name}.md`]: `---\nname: ${name}\ndescription: The ${name}\nmodel: scripted/${name}.yaml\n${frontMatter}\n---\nYou are ${name}.\n`,
  [`${name}.yaml`]: JSON.stringify({ turns }),
});

/** An exposed agent that makes these calls at once, and then takes the other turns. */
export const scriptedCaller = (
  name: string,
  calls: readonly ScriptedCall[],
  then: readonly ScriptedTurn[],
  frontMatter = "",
): Files => {
  const names = [...new Set(calls.map(({ input }) => input.agent))].join(", ");
  const lines = [`exposed: true`, `calls: [${names}]`, ...(frontMatter === "" ? [] : [frontMatter])].join("\n");
  return scriptedAgent(name, lines, [{ match: { turn: 1 }, toolCalls: calls }, ...then]);
};
