import type { AgentDefinition } from "@shaman/agents";

/** An agent with nothing of its own, but for what the test says of it. */
export const agentDefinition = (
  changes: Partial<AgentDefinition> & Pick<AgentDefinition, "name">,
): AgentDefinition => ({
  path: changes.name,
  file: `${changes.name}.md`,
  description: "x",
  exposed: true,
  tags: [],
  skills: [],
  tools: [],
  mcpServers: {},
  limits: {},
  approval: [],
  repeatable: [],
  calls: [],
  deduplicate: true,
  retry: {},
  template: [{ kind: "text", text: "You work." }],
  usesPrompt: false,
  ...changes,
});
