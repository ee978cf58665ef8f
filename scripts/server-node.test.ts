import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, expect, test } from "vitest";

const ROOT = join(import.meta.dirname, "..");
const folder = mkdtempSync(join(tmpdir(), "shaman server node "));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const REPORT = `
  import v8 from "node:v8";
  const young = v8.getHeapSpaceStatistics().find(({ space_name }) => space_name === "new_space");
  const { MALLOC_ARENA_MAX } = process.env;
  console.log(JSON.stringify({ youngBytes: young.space_size, MALLOC_ARENA_MAX, pid: process.pid, args: process.argv.slice(2) }));`;

test("a server's Node has its whole young generation from the start, few arenas, and the process number of its script", async () => {
  const main = join(folder, "report.mjs");
  writeFileSync(main, REPORT);
  const started = promisify(execFile)(join(ROOT, "scripts", "server-node"), [main, "--role", "a b"], {
    env: { SHAMAN_NODE: process.execPath },
  });
  const report = JSON.parse((await started).stdout);
  expect(report).toMatchObject({ MALLOC_ARENA_MAX: "2", pid: started.child.pid, args: ["--role", "a b"] });
  // One of its two halves is there before the first collection; left to itself, Node would begin with 1 MiB.
  expect(report.youngBytes).toBe(16 * 1024 * 1024);
});

test.each(["a2a", "worker"])("npm start in %s/ starts it that way", (app) => {
  const manifest = JSON.parse(readFileSync(join(ROOT, app, "package.json"), "utf8"));
  expect(manifest.scripts.start).toBe("exec ../scripts/server-node src/main.ts");
});
