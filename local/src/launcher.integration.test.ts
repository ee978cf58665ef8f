import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { once } from "node:events";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { unwrap } from "@shaman/kernel";
import { isProcessAlive } from "@shaman/postgres-embedded";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createLauncher, type Launcher } from "./launcher.ts";
import type { LocalFile } from "./local-file.ts";
import { readPorts, type Ports } from "./ports.ts";

/** Stands in for a process of ours: answers /ready and writes down its start, its arguments and what it was told. */
const PROGRAM = `
  import { appendFileSync } from "node:fs";
  import { createServer } from "node:http";
  const args = process.argv.slice(2);
  const role = args[1] ?? "worker";
  const note = (what) => appendFileSync(process.env.JOURNAL, role + " " + what + "\\n");
  const names = ["INTERNAL_JWT_KEYS", "SHAMAN_SECRET_KEYS", "INTERNAL_URL", "BASE_DOMAIN", "PUBLIC_URL_TEMPLATE"];
  note("starts as " + new URL(process.env.DATABASE_URL).username + " with " + names.filter((name) => process.env[name]));
  const port = Number(args[3] ?? process.env.WORKER_HEALTH_PORT);
  const server = createServer((request, response) => response.end(request.url)).listen(port, "127.0.0.1");
  process.on("SIGTERM", () => { note("stops"); process.exit(0); });`;

const state: { root: string; ports: Ports; lines: string[]; launchers: Launcher[] } = {
  root: "",
  ports: unwrap(readPorts([])),
  lines: [],
  launchers: [],
};

const isFree = async (port: number): Promise<boolean> => {
  const server = createServer().listen(port, "127.0.0.1");
  const free = await Promise.race([
    once(server, "listening").then(() => true),
    once(server, "error").then(() => false),
  ]).catch(() => false);
  server.close();
  return free;
};

const freePorts = async (): Promise<Ports> => {
  for (let base = 21_000 + (process.pid % 1_000) * 20; ; base += 20) {
    const ports = unwrap(readPorts(["--port", String(base)]));
    const all = await Promise.all(Object.values(ports).map(isFree));
    if (all.every(Boolean)) return ports;
  }
};

beforeEach(async () => {
  state.root = mkdtempSync(join(tmpdir(), "shaman launcher "));
  state.ports = await freePorts();
  state.lines = [];
  for (const app of ["a2a", "worker"]) {
    mkdirSync(join(state.root, app, "src"), { recursive: true });
    writeFileSync(join(state.root, app, "src", "main.ts"), PROGRAM);
    writeFileSync(join(state.root, app, "package.json"), '{ "type": "module" }');
  }
  for (const example of ["order-desk", "tax-office"]) {
    mkdirSync(join(state.root, "examples", example), { recursive: true });
    writeFileSync(
      join(state.root, "examples", example, "Greeter.md"),
      "---\nname: Greeter\ndescription: Says hello\nexposed: true\nmodel: openai/gpt-5\n---\nSay hello. {{prompt}}\n",
    );
  }
});

afterEach(async () => {
  await Promise.all(state.launchers.splice(0).map((launcher) => launcher.stop()));
  rmSync(state.root, { recursive: true, force: true });
});

const journalFile = (): string => join(state.root, "journal");
const journal = (): readonly string[] => readFileSync(journalFile(), "utf8").trimEnd().split("\n");

const givenLauncher = (): Launcher => {
  const launcher = createLauncher({
    root: state.root,
    ports: state.ports,
    config: { databaseUrl: undefined, redisUrl: undefined },
    env: {
      PATH: process.env.PATH,
      JOURNAL: journalFile(),
      INTERNAL_JWT_KEYS: "foreign",
      SHAMAN_SECRET_KEYS: "foreign",
    },
    log: (name, line) => void state.lines.push(`${name} ${line}`),
    // The worker here syncs nothing.
    syncTimeoutMs: 0,
  });
  state.launchers.push(launcher);
  return launcher;
};

const localFile = (): LocalFile => JSON.parse(readFileSync(join(state.root, ".shaman", "local.json"), "utf8"));

test("everything starts in order, each process with its own role and no key it may not have", async () => {
  await givenLauncher().start();
  expect(journal()).toEqual([
    "internal starts as shaman_internal with INTERNAL_JWT_KEYS,SHAMAN_SECRET_KEYS,INTERNAL_URL,BASE_DOMAIN,PUBLIC_URL_TEMPLATE",
    "worker starts as shaman_worker with INTERNAL_JWT_KEYS,SHAMAN_SECRET_KEYS,INTERNAL_URL,BASE_DOMAIN,PUBLIC_URL_TEMPLATE",
    "public starts as shaman_public with BASE_DOMAIN,PUBLIC_URL_TEMPLATE",
  ]);
});

test("local.json says what runs, follows a replaced process and goes with the last one", async () => {
  const launcher = givenLauncher();
  await launcher.start();
  const file = join(state.root, ".shaman", "local.json");
  expect(statSync(file).mode & 0o777).toBe(0o600);
  const local = localFile();
  const host = `acme.localhost:${state.ports.public}`;
  expect(local).toMatchObject({
    public: `http://127.0.0.1:${state.ports.public}`,
    internal: `http://127.0.0.1:${state.ports.internal}`,
    databaseUrl: expect.stringContaining("shaman_public"),
    organizations: [{ slug: "acme", host }, { slug: "techcorp" }],
  });
  expect(local.processes.map(({ name }) => name)).toEqual(["a2a-internal", "worker", "a2a-public"]);
  const worker = local.processes.find(({ name }) => name === "worker");
  process.kill(worker?.pid ?? 0, "SIGKILL");
  await expect.poll(() => localFile().processes[1]?.pid, { timeout: 30_000 }).not.toBe(worker?.pid);

  await expect.poll(() => state.lines.join("\n"), { timeout: 30_000 }).toContain("worker is ready again");

  const last = localFile().processes;
  await launcher.stop();
  expect(last.filter(({ pid }) => isProcessAlive(pid))).toEqual([]);
  expect(journal().filter((line) => line.endsWith("stops"))).toEqual([
    "public stops",
    "worker stops",
    "internal stops",
  ]);
  expect(existsSync(file)).toBe(false);
});

test("a second start finds the same organizations and keys", async () => {
  const first = givenLauncher();
  await first.start();
  const before = localFile().organizations;
  await first.stop();
  await givenLauncher().start();
  expect(localFile().organizations).toEqual(before);
  expect(before.map(({ apiKey }) => apiKey.slice(0, 8))).toEqual(["sk_test_", "sk_test_"]);
});

test("a taken port is told in a sentence with the port and the way out, and nothing stays running", async () => {
  const server = createServer().listen(state.ports.internal, "127.0.0.1");
  await once(server, "listening");
  const launcher = givenLauncher();
  await expect(launcher.start()).rejects.toThrow(
    `Port ${state.ports.internal}, which the internal A2A server needs, is taken by another program`,
  );
  server.close();
  expect(existsSync(journalFile())).toBe(false);
});

test("a process that cannot start ends the start, and what ran before it is stopped", async () => {
  writeFileSync(join(state.root, "worker", "src", "main.ts"), 'console.error("no such luck");\nprocess.exit(1);');
  const launcher = givenLauncher();
  await expect(launcher.start()).rejects.toThrow("worker ended with status 1 before it was ready");
  await launcher.stop();
  expect(state.lines).toContain("worker no such luck");
  expect(journal().at(-1)).toBe("internal stops");
});
