import { once } from "node:events";
import { createServer } from "node:net";
import { parseArgs } from "node:util";
import { userError, type AppError, type Result } from "@shaman/kernel";

const DEFAULT_PORT = 5000;
const HIGHEST_OFFSET = 10;

/** The ports of one copy of everything: public at N, internal at N+1, the worker's health at N+3, the examples' tools at N+5, PostgreSQL at N+10. */
export type Ports = {
  readonly public: number;
  readonly internal: number;
  readonly workerHealth: number;
  readonly tools: number;
  readonly postgres: number;
};

const portsFrom = (base: number): Ports => ({
  public: base,
  internal: base + 1,
  workerHealth: base + 3,
  tools: base + 5,
  postgres: base + HIGHEST_OFFSET,
});

/** Reads `--port N` (also `--port=N`); all ports move with it. */
export const readPorts = (args: readonly string[]): Result<Ports> => {
  const refuse = (message: string): Result<Ports> => ({ ok: false, error: userError("invalid_argument", message) });
  try {
    const { values } = parseArgs({ args: [...args], options: { port: { type: "string" } } });
    const base = values.port === undefined ? DEFAULT_PORT : Number(values.port);
    if (!Number.isInteger(base) || base < 1 || base > 65_535 - HIGHEST_OFFSET) {
      return refuse(`--port ${values.port} is not a port from 1 to ${65_535 - HIGHEST_OFFSET}.`);
    }
    return { ok: true, value: portsFrom(base) };
  } catch (thrown) {
    const reason = thrown instanceof Error ? thrown.message : String(thrown);
    return refuse(`${reason} The only option is --port N (npm start -- --port 6000).`);
  }
};

/** The sentence for a port that somebody else has. */
export const portTaken = (use: string, port: number, ports: Ports): AppError =>
  userError(
    "port_taken",
    `Port ${port}, which ${use} needs, is taken by another program: stop that program, ` +
      `or move all ports with \`npm start -- --port ${ports.public === 6000 ? 7000 : 6000}\`.`,
    { port },
  );

const isFree = async (port: number, host: string): Promise<boolean> => {
  const server = createServer();
  server.listen(port, host);
  try {
    await once(server, "listening");
  } catch (thrown) {
    // A machine without IPv6 refuses the address, which says nothing about the port.
    return !(thrown instanceof Error && "code" in thrown && thrown.code === "EADDRINUSE");
  }
  server.close();
  await once(server, "close");
  return true;
};

/** Whether nothing listens on the port on loopback or on all addresses. Another program may still take it a moment later. */
export const isPortFree = async (port: number): Promise<boolean> => {
  for (const host of ["127.0.0.1", "0.0.0.0", "::"]) {
    if (!(await isFree(port, host))) return false;
  }
  return true;
};
