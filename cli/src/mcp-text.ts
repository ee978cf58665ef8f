import type { McpLook } from "./mcp-look.ts";
import { safe } from "./run-text.ts";
import { table } from "./table.ts";

const MAX_CHARS = 80;

/** The beginning of what a server says of a tool. */
const firstLine = (text: string): string => {
  const [line = ""] = text.split("\n");
  return line.length > MAX_CHARS ? `${line.slice(0, MAX_CHARS)}…` : line;
};

export const describeLook = ({ tools, problems }: McpLook): string => {
  const rows = table(
    [
      { title: "tool", cell: (tool) => tool.name },
      { title: "safe to repeat", cell: (tool) => (tool.repeatable ? "yes" : "no") },
      { title: "description", cell: (tool) => firstLine(tool.description) },
    ],
    tools,
  );
  return (tools.length === 0 ? "" : rows) + problems.map((problem) => `${safe(problem)}\n`).join("");
};
