import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { afterEach, beforeEach, expect, test } from "vitest";
import { mayEnter } from "./account.ts";
import { startPostgres, type RunningPostgres, type StartPostgresOptions } from "./start-postgres.ts";
import { stopLeftoverPostgres } from "./stop-leftover-postgres.ts";

const root = process.getuid?.() === 0;

const state: { folder: string; dir: string; lines: string[]; running: RunningPostgres[] } = {
  folder: "",
  dir: "",
  lines: [],
  running: [],
};

beforeEach(() => {
  state.folder = mkdtempSync(join(tmpdir(), "shaman postgres "));
  chmodSync(state.folder, 0o755);
  state.dir = join(state.folder, "postgres");
  state.lines = [];
});

const removeOutside = (): void => {
  const file = join(state.dir, "outside");
  const own = existsSync(file) ? readFileSync(file, "utf8").split("\n") : [];
  for (const folder of own) if (existsSync(join(folder, "data"))) rmSync(folder, { recursive: true });
};

afterEach(async () => {
  await Promise.all(state.running.splice(0).map((each) => each.stop()));
  removeOutside();
  rmSync(state.folder, { recursive: true, force: true });
});

const start = async (options: Partial<StartPostgresOptions> = {}): Promise<RunningPostgres> => {
  const log = (line: string): void => void state.lines.push(line);
  const running = await startPostgres({ dir: state.dir, port: 0, log, ...options });
  state.running.push(running);
  return running;
};

const ask = async (url: string, sql: string): Promise<unknown[]> => {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
};

test("a new database is UTF-8, durable, without JIT and reachable with the password only", async () => {
  const { url } = await start();
  const rows = await ask(
    url,
    `SELECT current_database() AS name, current_setting('fsync') AS fsync, current_setting('jit') AS jit,
       current_setting('synchronous_commit') AS commit, current_setting('max_connections') AS connections,
       current_setting('server_encoding') AS encoding, current_setting('listen_addresses') AS addresses`,
  );
  expect(rows).toEqual([
    {
      name: "shaman",
      fsync: "on",
      jit: "off",
      commit: "on",
      connections: "200",
      encoding: "UTF8",
      addresses: "127.0.0.1",
    },
  ]);
  const wrong = new URL(url);
  wrong.password = "guess";
  await expect(ask(wrong.href, "SELECT 1")).rejects.toThrow("password authentication failed");
});

test("data survives a stop and a start", async () => {
  const first = await start();
  await ask(first.url, "CREATE TABLE kept AS SELECT 42 AS answer");
  await first.stop();
  const second = await start();
  expect(await ask(second.url, "SELECT answer FROM kept")).toEqual([{ answer: 42 }]);
});

test("a server that is killed is reported, and the next start recovers its data", async () => {
  const first = await start();
  await ask(first.url, "CREATE TABLE kept AS SELECT 42 AS answer");
  process.kill(first.pid, "SIGKILL");
  await first.exited;
  const second = await start({ port: first.port });
  expect(await ask(second.url, "SELECT answer FROM kept")).toEqual([{ answer: 42 }]);
});

test("a server left by a killed process is used again on the same port and stopped for another one", async () => {
  const first = await start();
  const again = await start({ port: first.port });
  expect(again.pid).toBe(first.pid);
  expect(state.lines.join("\n")).toContain("is used again");
  const moved = await start({ port: await freePort() });
  await first.exited;
  expect(moved.pid).not.toBe(first.pid);
  expect(await ask(moved.url, "SELECT 1 AS one")).toEqual([{ one: 1 }]);
});

test("a stale postmaster.pid that now names another program does not stop the start", async () => {
  const first = await start();
  const data = (await ask(first.url, "SELECT current_setting('data_directory') AS data"))[0];
  await first.stop();
  const file = join(String(Object(data).data), "postmaster.pid");
  writeFileSync(file, `${process.pid}\n${state.dir}\n0\n1\n\n127.0.0.1\n`);
  chmodSync(file, 0o644);
  const second = await start();
  expect(await ask(second.url, "SELECT 1 AS one")).toEqual([{ one: 1 }]);
});

test("a leftover server can be stopped without starting one", async () => {
  const first = await start();
  expect(await stopLeftoverPostgres(state.dir)).toBe(true);
  await first.exited;
  expect(await stopLeftoverPostgres(state.dir)).toBe(false);
});

test("a taken port is an error that names the port", async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  const port = address !== null && typeof address === "object" ? address.port : 0;
  await expect(start({ port })).rejects.toMatchObject({
    code: "port_taken",
    message: expect.stringContaining(`${port}`),
  });
  server.close();
});

test.runIf(root)(
  "root below a folder that only root may enter keeps the files outside and finds them again",
  async () => {
    chmodSync(state.folder, 0o700);
    const first = await start();
    await ask(first.url, "CREATE TABLE kept AS SELECT 42 AS answer");
    expect(readFileSync(join(state.dir, "outside"), "utf8")).toMatch(/^\/var\/lib\/shaman\//);
    await first.stop();
    const second = await start();
    expect(await ask(second.url, "SELECT answer FROM kept")).toEqual([{ answer: 42 }]);
  },
);

test.runIf(root)("root below a closed folder does not revive data of an installation that was wiped", async () => {
  chmodSync(state.folder, 0o700);
  const first = await start();
  await ask(first.url, "CREATE TABLE kept AS SELECT 42 AS answer");
  await first.stop();
  rmSync(state.dir, { recursive: true });
  const second = await start();
  await expect(ask(second.url, "SELECT answer FROM kept")).rejects.toThrow("does not exist");
});

const uid = 65_534;
// Below a folder that only root may enter, an ordinary user cannot even read this file.
const ordinaryUserMayRun = root && mayEnter({ uid, gid: uid }, import.meta.dirname);

test.runIf(ordinaryUserMayRun)("an ordinary user keeps the files in the folder and owns them", async () => {
  const { ended, output } = startAsOrdinaryUser();
  await ended;
  expect(output.text).toContain("ready postgres://");
  expect(statSync(join(state.dir, "data")).uid).toBe(uid);
  expect(existsSync(join(state.dir, "outside"))).toBe(false);
});

const startAsOrdinaryUser = (): { ended: Promise<unknown>; output: { text: string } } => {
  chmodSync(state.folder, 0o777);
  const program = `
    const { startPostgres } = await import(${JSON.stringify(join(import.meta.dirname, "index.ts"))});
    const running = await startPostgres({ dir: ${JSON.stringify(state.dir)}, port: 0, log: console.log });
    console.log("ready", running.url);
    await running.stop();`;
  const child: ChildProcess = spawn(process.execPath, ["--input-type=module", "-e", program], {
    uid,
    gid: uid,
    cwd: "/",
    stdio: ["ignore", "pipe", "inherit"],
  });
  const output = { text: "" };
  child.stdout?.on("data", (chunk: Buffer) => (output.text += chunk.toString()));
  return { ended: once(child, "close"), output };
};

const freePort = async (): Promise<number> => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  return address !== null && typeof address === "object" ? address.port : 0;
};
