import { spawn } from "node:child_process";
import { once } from "node:events";
import { realpathSync } from "node:fs";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { freePort } from "./free-port.ts";
import { whenSeen } from "./run-history.ts";

type PublicServer = "everything" | "filesystem" | "memory";

const STORE = realpathSync(join(import.meta.dirname, "../../../node_modules/.pnpm"));
const INSIDE = "/servers";

const programOf = (name: PublicServer): string =>
  createRequire(import.meta.url).resolve(`@modelcontextprotocol/server-${name}/dist/index.js`);

/** The public `@modelcontextprotocol/server-everything` as a process of its own, over streamable HTTP on loopback. */
export const everythingServer = async (): Promise<{
  readonly url: string;
  readonly close: () => Promise<void>;
}> => {
  const port = await freePort();
  const server = spawn(process.execPath, [programOf("everything"), "streamableHttp"], {
    env: { PATH: process.env.PATH, PORT: String(port) },
    stdio: ["ignore", "ignore", "pipe"],
  });
  const exited = once(server, "exit");
  let output = "";
  server.stderr.on("data", (chunk: Buffer) => (output += chunk.toString()));
  const url = `http://127.0.0.1:${port}/mcp`;
  await whenSeen("server-everything", () => {
    if (server.exitCode !== null) throw new Error(`server-everything ended:\n${output}`);
    return fetch(url, { method: "DELETE", signal: AbortSignal.timeout(5_000) }).then(
      () => true,
      () => undefined,
    );
  });
  return {
    url,
    close: async () => {
      if (server.exitCode === null) server.kill("SIGKILL");
      await exited;
    },
  };
};

/**
 * An operator's catalogue with the public servers `everything`, `files` (filesystem, in its working folder) and `memory`,
 * as programs in the sandbox. `env` is for the internal server.
 */
export const publicCatalogue = async (): Promise<{
  readonly env: Readonly<Record<string, string>>;
  readonly close: () => Promise<void>;
}> => {
  const folder = await mkdtemp(join(tmpdir(), "shaman-catalogue-"));
  await chmod(folder, 0o755);
  const entry = (name: PublicServer, args: readonly string[] = [], more: object = {}) => ({
    description: `The public server ${name}`,
    command: "node",
    args: [join(INSIDE, relative(STORE, realpathSync(programOf(name)))), ...args],
    readOnly: [{ from: STORE, to: INSIDE }],
    ...more,
  });
  const servers = {
    everything: entry("everything"),
    files: entry("filesystem", ["{{scratch}}"]),
    memory: entry("memory", [], { environment: { MEMORY_FILE_PATH: "memory-file" } }),
  };
  const [catalogue, secrets] = [join(folder, "catalogue.yaml"), join(folder, "secrets.yaml")];
  await writeFile(catalogue, JSON.stringify({ servers }));
  await writeFile(secrets, "memory-file: /scratch/memory.jsonl\n", { mode: 0o600 });
  return {
    env: { MCP_CATALOGUE: catalogue, MCP_CATALOGUE_SECRETS: secrets },
    close: () => rm(folder, { recursive: true, force: true }),
  };
};
