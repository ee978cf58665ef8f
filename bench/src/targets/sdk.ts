import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { freePort, nodeProcess, startProcess } from "../processes.ts";
import type { Postgres } from "../stores.ts";
import { ANSWER_PROMPT, ANSWER_TEXT, type Target } from "./target.ts";

const server = new URL("../../baseline/sdk/server.ts", import.meta.url);
const isReady = (lines: readonly string[]): boolean => lines.some((line) => line.startsWith("ready"));

/** Where the SDK keeps the command that creates its tables. */
const migrator = new URL("../cli/a2a_db.js", import.meta.resolve("@a2a-js/sdk/server"));

/** Starts the official SDK's server in one process, with its task store in a database of its own. */
export const startSdk = async ({ postgres }: { readonly postgres: Postgres }): Promise<Target> => {
  const { name: database, url: databaseUrl } = await postgres.createDatabase("sdk");
  await promisify(execFile)(process.execPath, [fileURLToPath(migrator), "upgrade", "--url", databaseUrl]);
  const port = await freePort();
  const env = { PORT: String(port), DATABASE_URL: databaseUrl };
  const running = await startProcess(nodeProcess("sdk", server, { env }), isReady);
  return {
    name: "sdk",
    endpoint: {
      origin: `http://127.0.0.1:${port}`,
      callers: [{ host: "acme.localhost", path: "/a2a/v1/agents/Echo", token: "none" }],
      prompt: ANSWER_PROMPT,
      expect: ANSWER_TEXT,
    },
    processes: [running],
    countConnections: async () => ({ postgres: await postgres.countConnections(database), redis: 0 }),
    stop: running.stop,
  };
};
