import { styleText } from "node:util";

const COLORS = ["cyan", "magenta", "yellow", "green", "blue"] as const;
const NAME_WIDTH = 12;

/** Writes lines with the name of their process before them, each name in a colour of its own on a terminal. */
export const createLineLog = (write: (text: string) => void): ((name: string, line: string) => void) => {
  const colors = new Map<string, (typeof COLORS)[number]>();
  return (name, line) => {
    const color = colors.get(name) ?? COLORS[colors.size % COLORS.length] ?? "cyan";
    colors.set(name, color);
    write(`${styleText(color, name.padEnd(NAME_WIDTH))} ${line}\n`);
  };
};
