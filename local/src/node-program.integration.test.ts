import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { nodeProgram } from "./node-program.ts";
import { createSupervisor, type Service } from "./supervisor.ts";

const folder = mkdtempSync(join(tmpdir(), "shaman local "));

afterAll(() => rmSync(folder, { recursive: true, force: true }));

const freePort = async (): Promise<number> => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  return address !== null && typeof address === "object" ? address.port : 0;
};

const journal = join(folder, "journal");

/** A program that answers /ready, and writes down when it starts and when it is asked to stop. */
const PROGRAM = `
  import { appendFileSync } from "node:fs";
  import { createServer } from "node:http";
  const [name, port] = process.argv.slice(2);
  const note = (what) => appendFileSync(process.env.JOURNAL, name + " " + what + "\\n");
  note("starts");
  console.log("hello from " + name);
  const server = createServer((_request, response) => response.end("ok")).listen(Number(port), "127.0.0.1");
  process.on("SIGTERM", () => { note("stops"); server.close(); process.exit(0); });`;

type Log = (name: string, line: string) => void;

const givenProgram = async (name: string, log: Log, wanted?: number): Promise<Service> => {
  const main = join(folder, `${name}.mjs`);
  writeFileSync(main, PROGRAM);
  const port = wanted ?? (await freePort());
  const readyUrl = `http://127.0.0.1:${port}/ready`;
  return nodeProgram({ name, main, args: [name, String(port)], env: { JOURNAL: journal }, readyUrl, log });
};

test("real programs start in order, are replaced when killed, and stop in reverse order", async () => {
  const lines: string[] = [];
  const log = (name: string, line: string): void => void lines.push(`${name} ${line}`);
  const replaced = { resolve: () => {} };
  const wasReplaced = new Promise<void>((resolve) => (replaced.resolve = resolve));
  const supervisor = createSupervisor({ log, onReplaced: replaced.resolve, backoff: { firstMs: 1, maxMs: 4 } });
  const second = await givenProgram("second", log);
  await supervisor.start(await givenProgram("first", log));
  await supervisor.start(second);
  expect(readFileSync(journal, "utf8")).toBe("first starts\nsecond starts\n");

  const [, before] = supervisor.processes();
  process.kill(before?.pid ?? 0, "SIGKILL");
  await wasReplaced;
  await second.ready(AbortSignal.timeout(30_000));
  const [, after] = supervisor.processes();
  expect(after?.pid).not.toBe(before?.pid);

  await supervisor.stop();
  expect(readFileSync(journal, "utf8")).toBe("first starts\nsecond starts\nsecond starts\nsecond stops\nfirst stops\n");
  expect(lines).toContain("first hello from first");
  expect(lines).toContain("second was ended by signal SIGKILL; it is started again in 0.001 s.");
});

test("a program that ends at once fails the start instead of being waited for", async () => {
  const main = join(folder, "broken.mjs");
  writeFileSync(main, "process.exit(3);");
  const supervisor = createSupervisor({ log: () => undefined, onReplaced: () => undefined });
  const readyUrl = `http://127.0.0.1:${await freePort()}/ready`;
  const service = nodeProgram({ name: "broken", main, args: [], env: {}, readyUrl, log: () => undefined });
  await expect(supervisor.start(service)).rejects.toThrow("broken ended with status 3 before it was ready");
  await supervisor.stop();
});

test("a program in a process group of its own is not reached by an interrupt of ours", async () => {
  const port = await freePort();
  const main = join(folder, "group.mjs");
  writeFileSync(main, PROGRAM);
  const launcher = `
    const { nodeProgram } = await import(${JSON.stringify(join(import.meta.dirname, "node-program.ts"))});
    process.on("SIGINT", () => {});
    const log = () => {};
    const readyUrl = "http://127.0.0.1:${port}/ready";
    const program = { name: "group", main: ${JSON.stringify(main)}, args: ["group", "${port}"], readyUrl, log };
    const service = nodeProgram({ ...program, env: { JOURNAL: ${JSON.stringify(journal)} } });
    const running = service.spawn();
    await service.ready(AbortSignal.timeout(30_000));
    process.on("SIGINT", async () => {
      await fetch(readyUrl);
      await running.stop();
      console.log("answered after the interrupt");
      process.exit(0);
    });
    console.log("ready");`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", launcher], {
    detached: true,
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [first] = await once(child.stdout, "data");
  expect(String(first)).toContain("ready");
  process.kill(-(child.pid ?? 0), "SIGINT");
  const [second] = await once(child.stdout, "data");
  expect(String(second)).toContain("answered after the interrupt");
});

test("a program on a port that fetch refuses, as it does 6000, becomes ready", async () => {
  const refused = 6_697;
  await expect(fetch(`http://127.0.0.1:${refused}/`)).rejects.toMatchObject({ cause: { message: "bad port" } });
  const supervisor = createSupervisor({ log: () => undefined, onReplaced: () => undefined });
  await supervisor.start(await givenProgram("third", () => undefined, refused));
  expect(supervisor.processes()).toHaveLength(1);
  await supervisor.stop();
});
