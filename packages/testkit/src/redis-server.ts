import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { freePort } from "./free-port.ts";

export type RedisServer = {
  readonly url: string;
  readonly port: number;
  readonly pid: number;
  /** Kills it hard and starts an empty one on the same port when asked to. */
  readonly kill: () => Promise<void>;
  readonly restart: () => Promise<void>;
  readonly close: () => Promise<void>;
};

/** A real Redis server (Debian's `redis-server`) without persistence. */
export const startRedis = async (): Promise<RedisServer> => {
  const dir = await mkdtemp(join(tmpdir(), "shaman-redis-"));
  const port = await freePort();
  let child = await spawnRedis(dir, port);
  const kill = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await exited;
  };
  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    get pid() {
      return child.pid ?? 0;
    },
    kill,
    restart: async () => {
      await kill();
      child = await spawnRedis(dir, port);
    },
    close: async () => {
      await kill();
      await rm(dir, { recursive: true, force: true });
    },
  };
};

const spawnRedis = async (dir: string, port: number): Promise<ChildProcess> => {
  const settings = ["--port", String(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", dir];
  const child = spawn("redis-server", settings, { stdio: ["ignore", "pipe", "ignore"] });
  const failed = once(child, "error").then(([error]) => {
    throw new Error("redis-server could not be started: install Debian's package redis-server", { cause: error });
  });
  const ready = async (): Promise<void> => {
    if (child.stdout === null) throw new Error("redis-server has no output");
    for await (const line of createInterface({ input: child.stdout })) {
      if (line.includes("Ready to accept connections")) return;
    }
    throw new Error("redis-server ended before it was ready");
  };
  await Promise.race([ready(), failed]);
  child.stdout?.resume();
  return child;
};
