import { createHash } from "node:crypto";

const MAX_CHARS = 64;
const HASH_CHARS = 8;

export type ServerTool = { readonly server: string; readonly tool: string };

const hashOf = ({ server, tool }: ServerTool): string =>
  createHash("sha256").update(`${server}\0${tool}`).digest("hex").slice(0, HASH_CHARS);

const plain = ({ server, tool }: ServerTool): string => `${server}__${tool}`;

const isFit = (name: string): boolean => /^[A-Za-z0-9_-]{1,64}$/.test(name);

/**
 * The names under which a model is offered tools of servers, in the same order: `server__tool` where that is unique and fits
 * every provider, else shortened and with a hash of both names.
 */
export const modelToolNames = (tools: readonly ServerTool[]): readonly string[] => {
  const uses = new Map<string, number>();
  for (const tool of tools) uses.set(plain(tool), (uses.get(plain(tool)) ?? 0) + 1);
  return tools.map((tool) => {
    const name = plain(tool);
    if (isFit(name) && uses.get(name) === 1) return name;
    const kept = name.replace(/[^A-Za-z0-9_-]+/g, "_").slice(0, MAX_CHARS - HASH_CHARS - 1);
    return `${kept}_${hashOf(tool)}`;
  });
};
