import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, open, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { unwrap } from "@shaman/kernel";
import { afterAll, beforeAll, expect, inject, test } from "vitest";

import { DEFAULT_SANDBOX_LIMITS, type SandboxLimits } from "./sandbox-limits.ts";
import { findSandboxPrograms, type SandboxPrograms } from "./sandbox-programs.ts";
import type { Sandbox, SandboxSpec } from "./sandbox.ts";
import { startSandboxed } from "./start-sandboxed.ts";

const MIB = 1024 * 1024;
const CHECKOUT = join(import.meta.dirname, "../../../..");

let programs: SandboxPrograms;
let folder: string;

beforeAll(async () => {
  // Without bubblewrap this fails with its sentence: nothing here may be skipped.
  programs = unwrap(await findSandboxPrograms());
  folder = await mkdtemp(join(tmpdir(), "shaman-sandbox-test-"));
});

afterAll(() => rm(folder, { recursive: true, force: true }));

const PLAIN = {
  label: "test",
  command: "node",
  args: [],
  environment: {},
  readOnly: [],
  network: "none",
  limits: DEFAULT_SANDBOX_LIMITS,
} satisfies SandboxSpec;

type Given = Partial<Omit<SandboxSpec, "limits">> & { readonly limits?: Partial<SandboxLimits> };

/** A tool of the catalogue, as a script for Node. */
const startTool = async (script: string, given: Given = {}): Promise<Sandbox> =>
  unwrap(
    await startSandboxed(programs, {
      ...PLAIN,
      args: ["-e", script],
      ...given,
      limits: { ...DEFAULT_SANDBOX_LIMITS, ...given.limits },
    }),
  );

/** Runs a tool to its end; gives the lines of JSON that it wrote. */
const runTool = async (script: string, given: Given = {}) => {
  const logs: string[] = [];
  const sandbox = await startTool(script, { onLog: (line) => logs.push(line), ...given });
  const said: unknown[] = [];
  for await (const line of createInterface({ input: sandbox.stdout })) said.push(JSON.parse(line));
  return { said, logs, end: await sandbox.ended };
};

/** Lines for a tool's script: `attempt` writes what came of something, by name. */
const ATTEMPTS = `
  const fs = require("node:fs"), net = require("node:net"), { spawn, spawnSync } = require("node:child_process");
  const say = (value) => fs.writeSync(1, JSON.stringify(value) + "\\n");
  const attempt = (act) => { try { return { done: act() }; } catch (error) { return { refused: error.code }; } };
  const connect = (port, host) => new Promise((resolve) => {
    const socket = net.connect({ port, host, timeout: 5000 });
    socket.once("connect", () => resolve("connected")).once("error", (error) => resolve(error.code)).once("timeout", () => resolve("timeout"));
  });
`;

/** Processes of this machine whose command line holds a word. */
const processesNaming = (word: string): readonly string[] =>
  readdirSync("/proc").filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(word);
    } catch {
      return false;
    }
  });

const untilNoneNames = async (word: string): Promise<void> => {
  await expect.poll(() => processesNaming(word), { timeout: 20_000 }).toEqual([]);
};

/** A well-behaved tool that answers each line, for as long as somebody else misbehaves. */
const answersWhile = async (other: Promise<unknown>): Promise<number> => {
  const echo = await startTool(`process.stdin.pipe(process.stdout)`);
  const lines = createInterface({ input: echo.stdout })[Symbol.asyncIterator]();
  let answers = 0;
  const state = { over: false };
  const isOver = other.then(() => {
    state.over = true;
  });
  do {
    echo.stdin.write(`${answers}\n`);
    expect((await lines.next()).value).toBe(String(answers));
    answers += 1;
    await new Promise(setImmediate);
  } while (!state.over);
  await isOver;
  await echo.close();
  return answers;
};

test("a tool sees no file of this machine but libraries, and nothing it could write to but its own folder", async () => {
  const secret = join(folder, "another-run.txt");
  await writeFile(secret, "of another run", { mode: 0o644 });
  const paths = [
    "/etc/passwd",
    "/etc/shadow",
    "/root",
    "/home",
    CHECKOUT,
    secret,
    "/var",
    "/sys",
    "/run",
    "/proc/1/root",
  ];
  const { said } = await runTool(`${ATTEMPTS}
    for (const path of ${JSON.stringify(paths)}) say(attempt(() => fs.statSync(path).isFile() ? fs.readFileSync(path, "utf8") : fs.readdirSync(path)));
    for (const path of ["/x", "/usr/lib/x", "/dev/x", "/runtime/x", "/proc/sys/kernel/hostname"]) say(attempt(() => fs.writeFileSync(path, "x")));
    say(attempt(() => fs.writeFileSync("/scratch/x", "mine") ?? fs.readFileSync("x", "utf8")));
  `);
  // What /proc/1/root shows is the sandbox's own root, or nothing.
  expect(said.slice(0, 9)).toEqual(paths.slice(0, 9).map(() => ({ refused: "ENOENT" })));
  expect(JSON.stringify(said[9])).not.toContain("home");
  expect(said.slice(10, 14)).toEqual(["/x", "/usr/lib/x", "/dev/x", "/runtime/x"].map(() => ({ refused: "EROFS" })));
  expect(said[14]).toHaveProperty("refused");
  expect(said[15]).toEqual({ done: "mine" });
});

test("what lies where only we may enter is shown when it is named, and nothing beside it", async () => {
  const hidden = await mkdtemp(join(folder, "hidden-"));
  await mkdir(join(hidden, "named"), { mode: 0o755 });
  await writeFile(join(hidden, "named", "file"), "shown", { mode: 0o644 });
  await writeFile(join(hidden, "beside"), "not shown", { mode: 0o644 });
  const { said } = await runTool(
    `${ATTEMPTS} say(fs.readFileSync("/data/file", "utf8")); say(attempt(() => fs.readdirSync("/data/.."))); say(attempt(() => fs.writeFileSync("/data/x", "")));`,
    { readOnly: [{ from: join(hidden, "named"), to: "/data" }] },
  );
  expect(said[0]).toBe("shown");
  expect(JSON.stringify(said[1])).not.toContain("beside");
  expect(said[2]).toEqual({ refused: "EROFS" });
});

test("two sandboxes share no folder and see none of each other's processes", async () => {
  const one = await startTool(
    `require("node:fs").writeFileSync("/scratch/mine", "x"); console.log("{}"); setInterval(() => {}, 1000);`,
  );
  await once(one.stdout, "data");
  const { said } = await runTool(
    `${ATTEMPTS} say([fs.readdirSync("/scratch"), fs.readdirSync("/dev/shm")]); say(fs.readdirSync("/proc").filter((name) => /^[0-9]+$/.test(name)).length);`,
  );
  expect(said).toEqual([[[], []], 2]);
  one.kill("closed");
  await one.ended;
});

test("a tool has an empty environment, an unprivileged user, no capability and no process of anyone else", async () => {
  const { said } = await runTool(
    `${ATTEMPTS}
    say(process.env);
    say(fs.readFileSync("/proc/self/status", "utf8").match(/^(CapEff|CapBnd|NoNewPrivs|Seccomp):\\s+\\S+/gm).map((line) => line.split(/\\s+/)[1]));
    say([process.getuid(), process.getgid(), process.getgroups().filter((id) => id === 0)]);
    say(fs.readdirSync("/proc").filter((name) => /^[0-9]+$/.test(name)).length);
    say(fs.readdirSync("/proc/self/fd").map((fd) => attempt(() => fs.readlinkSync("/proc/self/fd/" + fd)).done).filter((name) => name?.startsWith("/") && name !== "/dev/null" && !name.startsWith("/proc/")));
  `,
    { environment: { API_TOKEN: "for this tool" } },
  );
  expect(said[0]).toEqual({
    API_TOKEN: "for this tool",
    HOME: "/scratch",
    LANG: "C.UTF-8",
    PATH: "/runtime:/usr/bin:/bin",
    TMPDIR: "/scratch",
  });
  expect(said.slice(1)).toEqual([["0000000000000000", "0000000000000000", "1", "2"], [1000, 1000, []], 2, []]);
});

test("no value of a tool's environment shows in the process list", async () => {
  const sandbox = await startTool("setInterval(() => {}, 1000)", {
    environment: { API_TOKEN: "canary-4711" },
    label: "seen-4712",
  });
  expect(processesNaming("seen-4712")).not.toEqual([]);
  expect(processesNaming("canary-4711")).toEqual([]);
  await sandbox.close();
});

test("a tool reaches no network: not loopback PostgreSQL, not the cloud's metadata address", async () => {
  const postgres = Number(new URL(inject("templateUrl")).port);
  const { said } = await runTool(`${ATTEMPTS}
    (async () => {
      say(await connect(${postgres}, "127.0.0.1"));
      say(await connect(80, "169.254.169.254"));
      say(Object.values(require("node:os").networkInterfaces()).flat().filter((each) => !each.internal));
    })();
  `);
  expect(said).toEqual(["ECONNREFUSED", "ENETUNREACH", []]);
});

test("a tool whose operator gave it the network reaches what this machine reaches, and still no files", async () => {
  const server = createServer((socket) => socket.end()).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = Object(server.address());
  const script = `${ATTEMPTS} connect(${port}, "127.0.0.1").then((came) => say([came, fs.existsSync("/etc/shadow")]))`;
  expect((await runTool(script, { network: "unfiltered" })).said).toEqual([["connected", false]]);
  expect((await runTool(script)).said).toEqual([["ECONNREFUSED", false]]);
  server.close();
});

test("a tool can make no namespace and reach no forbidden part of the kernel", async () => {
  const unshare = unwrapPath("/usr/bin/unshare");
  const { said } = await runTool(
    `${ATTEMPTS}
    for (const kind of ["--user", "--mount", "--net"]) say(spawnSync("${unshare}", [kind, "/runtime/node", "-e", "0"]).status !== 0);
    say(spawnSync("/usr/bin/mount", ["-t", "tmpfs", "none", "/scratch"]).status !== 0);
  `,
    {
      readOnly: [unshare, unwrapPath("/usr/bin/mount")].map((from) => ({ from, to: from })),
    },
  );
  expect(said).toEqual([true, true, true, true]);
});

const unwrapPath = (path: string): string => {
  if (!existsSync(path)) throw new Error(`${path} is missing: install util-linux`);
  return path;
};

test("a tool has no more processes than its limit, however it asks", async () => {
  const { said } = await runTool(
    `${ATTEMPTS}
    const children = Array.from({ length: 60 }, () => spawn("/runtime/sh", ["-c", "read x"], { stdio: ["pipe", "ignore", "ignore"] }).on("error", () => {}));
    const started = children.filter((child) => child.pid !== undefined);
    say(started.length);
    for (const child of started) child.kill();
  `,
    { limits: { processes: 40 } },
  );
  expect(said[0]).toBeGreaterThan(5);
  expect(said[0]).toBeLessThan(40);
});

test("a fork bomb stays within its number of processes, and others go on working", async () => {
  const bomb = startTool(
    `const bomb = () => { for (let i = 0; i < 20; i += 1) require("node:child_process").spawn("/runtime/sh", ["-c", "f() { f | f & }; f; sleep 1000"], { stdio: "ignore" }).on("error", () => {}); setTimeout(bomb, 10); }; bomb();`,
    { limits: { cpuSeconds: 3, processes: 40 }, label: "bomb-4713" },
  );
  const ended = bomb.then((sandbox) => sandbox.ended);
  expect(await answersWhile(ended)).toBeGreaterThan(1);
  expect((await ended).reason).toBe("cpu");
  await untilNoneNames("bomb-4713");
});

test("a full disk is the tool's own: files end at the size of its folder, and one file at its limit", async () => {
  const { said } = await runTool(
    `${ATTEMPTS}
    process.on("SIGXFSZ", () => {});
    const fill = (path, max) => { const fd = fs.openSync(path, "w"); let n = 0; try { while (n < max) n += fs.writeSync(fd, Buffer.alloc(65536)); } catch (error) { return [error.code, n]; } return ["done", n]; };
    say(fill("/scratch/a", 1e9));
    fs.rmSync("/scratch/a");
    for (const name of ["a", "b", "c", "d", "e"]) say(fill("/scratch/" + name, 1e9)[0]);
    say(fill("/dev/shm/a", 1e9)[0]);
  `,
    { limits: { fileBytes: 2 * MIB, scratchBytes: 8 * MIB } },
  );
  expect(said).toEqual([["EFBIG", 2 * MIB], "EFBIG", "EFBIG", "EFBIG", "ENOSPC", "ENOSPC", "EFBIG"]);
});

test("a tool that takes 2 GB of memory is stopped, in one process or in many, and the reason is told", async () => {
  const growing = `const kept = Buffer.alloc(400 * ${MIB}, 1); setInterval(() => kept.length, 1000);`;
  const one = await runTool(growing, { limits: { memoryBytes: 200 * MIB } });
  expect(one.end).toMatchObject({ reason: "memory" });
  expect(one.end.message).toContain("more than 209715200 bytes of memory");
  const child = `const kept = []; for (let i = 0; i < 12; i += 1) kept.push(Buffer.alloc(8 * ${MIB}, 1)); setInterval(() => kept.length, 1000);`;
  const many = await runTool(
    `for (let i = 0; i < 3; i += 1) require("node:child_process").spawn("/runtime/node", ["-e", ${JSON.stringify(child)}]); setInterval(() => {}, 1000);`,
    { limits: { memoryBytes: 250 * MIB } },
  );
  expect(many.end.reason).toBe("memory");
  const sudden = await runTool(`const kept = []; for (;;) kept.push(Buffer.alloc(64 * ${MIB}, 1));`, {
    limits: { memoryBytes: 200 * MIB },
  });
  expect(sudden.end.code).not.toBe(0);
});

test("WebAssembly works under the limits, which count what is used and not what is reserved", async () => {
  const { said } = await runTool(`${ATTEMPTS}
    const memory = new WebAssembly.Memory({ initial: 16, maximum: 65536 });
    memory.grow(16);
    say(memory.buffer.byteLength);
  `);
  expect(said).toEqual([32 * 65_536]);
});

test("a tool that computes for ever is stopped, also when its children do the work", async () => {
  const busy = await runTool("for (;;);", { limits: { cpuSeconds: 1 } });
  expect(busy.end.reason).toBe("cpu");
  const parent = await runTool(
    `require("node:child_process").spawn("/runtime/node", ["-e", "for (;;);"], { detached: true }).unref(); setInterval(() => {}, 1000);`,
    { limits: { cpuSeconds: 1 } },
  );
  expect(parent.end.reason).toBe("cpu");
});

test("a tool that sits there is stopped when its time is up", async () => {
  const { end } = await runTool("setInterval(() => {}, 1000)", { limits: { wallClockSeconds: 1 } });
  expect(end.reason).toBe("wallClock");
});

test("endless complaints are cut, counted and held back, and the tool still ends when asked", async () => {
  const logs: string[] = [];
  const sandbox = await startTool(
    `const line = "\\u001b[31m" + "x".repeat(2000) + "\\n"; const write = () => process.stderr.write(line.repeat(20), write); write();`,
    { onLog: (line) => logs.push(line) },
  );
  await expect.poll(() => logs.length, { timeout: 20_000 }).toBe(201);
  expect(await answersWhile(new Promise(setImmediate))).toBeGreaterThan(0);
  expect((await sandbox.close()).reason).toBe("closed");
  expect(logs).toHaveLength(201);
  expect(Math.max(...logs.map((line) => line.length))).toBeLessThanOrEqual(500);
  expect(logs.join("")).not.toContain("\u001b");
});

test("a tool that ignores every signal and its input's end is gone after a close, with all its children", async () => {
  const sandbox = await startTool(
    `for (const name of ["SIGTERM", "SIGINT", "SIGHUP"]) process.on(name, () => {});
     require("node:child_process").spawn("/runtime/sh", ["-c", "trap '' TERM HUP; while :; do read x; done"], { detached: true, stdio: ["pipe", "ignore", "ignore"] }).unref();
     setInterval(() => {}, 1000); console.log("{}");`,
    { label: "stubborn-4714" },
  );
  await once(sandbox.stdout, "data");
  expect(await sandbox.close()).toMatchObject({ reason: "closed" });
  await untilNoneNames("stubborn-4714");
});

test("an abort ends all of it", async () => {
  const controller = new AbortController();
  const sandbox = await startTool("setInterval(() => {}, 1000)", { signal: controller.signal, label: "aborted-4715" });
  controller.abort();
  expect((await sandbox.ended).reason).toBe("closed");
  await untilNoneNames("aborted-4715");
  const late = await startSandboxed(programs, { ...PLAIN, signal: controller.signal });
  expect(late.ok).toBe(false);
});

test("when the process that holds a sandbox is killed, nothing of the sandbox is left", async () => {
  const script = `
    import { startSandboxed } from ${JSON.stringify(join(import.meta.dirname, "start-sandboxed.ts"))};
    const started = await startSandboxed(${JSON.stringify(programs)}, {
      label: "orphan-4716", command: "node", environment: {}, readOnly: [], network: "none",
      args: ["-e", "require('node:child_process').spawn('/runtime/sh', ['-c', 'while :; do read x; done # orphan-4716'], { detached: true, stdio: ['pipe', 'ignore', 'ignore'] }); console.log('on'); setInterval(() => {}, 1000)"],
      limits: ${JSON.stringify(DEFAULT_SANDBOX_LIMITS)},
    });
    started.value.stdout.once("data", () => console.log("running"));
    setInterval(() => {}, 1000);
  `;
  const holder = spawn(process.execPath, ["--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(holder.stdout, "data");
  expect(processesNaming("orphan-4716").length).toBeGreaterThan(2);
  holder.kill("SIGKILL");
  await once(holder, "exit");
  await untilNoneNames("orphan-4716");
});

test("an open file that this process got from whoever started it does not reach a tool", async () => {
  const inherited = join(folder, "inherited.txt");
  await writeFile(inherited, "not for tools");
  const script = `
    import { startSandboxed } from ${JSON.stringify(join(import.meta.dirname, "start-sandboxed.ts"))};
    const started = await startSandboxed(${JSON.stringify(programs)}, {
      ...${JSON.stringify(PLAIN)},
      args: ["-e", ${JSON.stringify(`const fs = require("node:fs"); try { console.log(fs.readFileSync(20, "utf8") + "."); } catch (error) { console.log(error.code); }`)}],
    });
    started.value.stdout.pipe(process.stdout);
  `;
  const file = await open(inherited);
  const nothing = Array<"ignore">(17).fill("ignore");
  const holder = spawn(process.execPath, ["--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "inherit", ...nothing, file.fd],
  });
  if (holder.stdout === null) throw new Error("no output");
  const lines: string[] = [];
  for await (const line of createInterface({ input: holder.stdout })) lines.push(line);
  await file.close();
  expect(lines).toEqual(["."]);
});

test("any program runs that the operator shows, in the same bounds", async () => {
  const env = unwrapPath("/usr/bin/env");
  const sandbox = await startTool("", { command: env, args: [], readOnly: [{ from: env, to: env }] });
  const lines: string[] = [];
  for await (const line of createInterface({ input: sandbox.stdout })) lines.push(line);
  expect(lines.toSorted()).toEqual(["HOME=/scratch", "LANG=C.UTF-8", "PATH=/runtime:/usr/bin:/bin", "TMPDIR=/scratch"]);
});

test("a program that is not there, or ends at once, is told as such", async () => {
  const { end, logs } = await runTool("", { command: "/usr/lib/no-such-program" });
  expect(end).toMatchObject({ reason: "ended", code: 127 });
  expect(logs.join()).toContain("no-such-program");
  for (const bind of [
    { from: "/no/such/folder", to: "/data" },
    { from: "/usr/lib", to: "/usr/lib/no/such/place" },
  ]) {
    const unbound = await startSandboxed(programs, { ...PLAIN, readOnly: [bind] });
    expect(unbound).toMatchObject({ ok: false, error: { code: "sandbox_unavailable" } });
    expect(unbound.ok ? "" : unbound.error.message).toMatch(/\/no\/such/);
  }
});
