import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { findCycle, importBreach, roomOf } from "./import-law.mjs";

const root = join(import.meta.dirname, "..", "..");

describe("an import is refused when it", () => {
  test.each([
    ["goes up from the kernel", "packages/kernel/src/x.ts", "@shaman/config"],
    ["goes up from platform to domain", "packages/db/src/x.ts", "@shaman/audit"],
    ["goes up from domain to execution", "packages/runs/src/x.ts", "@shaman/a2a-wire"],
    ["goes up from execution to an app", "packages/engine/src/x.ts", "@shaman/a2a"],
    ["lets the worker run agents", "worker/src/x.ts", "@shaman/engine"],
    ["lets the worker call models", "worker/src/x.ts", "@shaman/llm"],
    ["lets the worker hold tools", "worker/src/x.ts", "@shaman/tools"],
    ["lets the web app run agents", "web/src/app/x.ts", "@shaman/engine"],
    ["lets the web app call models", "web/src/app/x.ts", "@shaman/llm"],
    ["lets the management API hold tools", "packages/graphql/src/x.ts", "@shaman/tools"],
    ["lets the command line run agents", "cli/src/x.ts", "@shaman/engine"],
    ["lets the local installation speak A2A itself", "local/src/x.ts", "@shaman/a2a-wire"],
    ["goes from app to app", "a2a/src/x.ts", "@shaman/worker"],
    ["uses the testkit outside tests", "packages/runs/src/x.ts", "@shaman/testkit"],
    ["reaches into a room", "packages/runs/src/x.ts", "@shaman/db/src/pool.ts"],
    ["reaches into a room by a relative path", "packages/runs/src/x.ts", "../../db/src/index.ts"],
    ["leaves an app by a relative path", "a2a/src/routes/x.ts", "../../../worker/src/main.ts"],
    ["enters a room from the scripts", "scripts/x.mjs", "../packages/db/src/index.ts"],
    ["names its own room", "packages/runs/src/x.ts", "@shaman/runs"],
    ["names a room without a layer", "packages/runs/src/x.ts", "@shaman/utils"],
    ["comes from a room without a layer", "packages/helpers/src/x.ts", "@shaman/kernel"],
    ["goes around the door to PostgreSQL", "packages/runs/src/x.ts", "pg"],
    ["goes around the door to the queue", "worker/src/x.ts", "bullmq"],
    ["goes around the guarded way out", "packages/agents/src/x.ts", "undici"],
    ["goes around the model port", "packages/engine/src/x.ts", "@ai-sdk/openai"],
  ])("%s", (_why, path, specifier) => {
    expect(importBreach(path, specifier)).toBeTypeOf("string");
  });
});

describe("an import is allowed when it", () => {
  test.each([
    ["goes down", "packages/engine/src/x.ts", "@shaman/kernel"],
    ["stays in its layer", "packages/runs/src/x.ts", "@shaman/audit"],
    ["stays in its room", "packages/runs/src/deep/x.ts", "../y.ts"],
    ["uses the testkit in a test", "packages/runs/src/x.integration.test.ts", "@shaman/testkit"],
    ["uses the testkit in what tests share", "packages/runs/src/x.scene.ts", "@shaman/testkit"],
    ["runs agents on the internal server", "a2a/src/internal-server.ts", "@shaman/engine"],
    ["lets the worker speak A2A", "worker/src/x.ts", "@shaman/a2a-wire"],
    ["lets the command line test a model", "cli/src/x.ts", "@shaman/llm"],
    ["lets the command line try an outside agent", "cli/src/x.ts", "@shaman/a2a-wire"],
    ["uses the door that is its own", "packages/queue/src/x.ts", "bullmq"],
    ["is Node's", "packages/kernel/src/x.ts", "node:crypto"],
  ])("%s", (_why, path, specifier) => {
    expect(importBreach(path, specifier)).toBeUndefined();
  });
});

const importsOfRooms = (): ReadonlyMap<string, readonly string[]> => {
  const imports = new Map<string, Set<string>>();
  const files = globSync("{packages/*/src,a2a,worker,cli,local,web}/**/*.ts", {
    cwd: root,
    exclude: (path) => path.endsWith("node_modules") || /\.(?:test|scene)\.ts$/.test(path),
  });
  for (const path of files) {
    const room = roomOf(path);
    if (room === undefined) continue;
    const found = readFileSync(join(root, path), "utf8").matchAll(/(?:from|import) "@shaman\/([^/"]+)"/g);
    const known = imports.get(room) ?? new Set();
    for (const [, target] of found) if (target !== undefined) known.add(target);
    imports.set(room, known);
  }
  return new Map([...imports].map(([room, targets]) => [room, [...targets]]));
};

test("a cycle among rooms is found", () => {
  const cycle = findCycle(
    new Map([
      ["audit", ["access"]],
      ["access", ["db", "runs"]],
      ["runs", ["audit"]],
      ["db", []],
    ]),
  );
  expect(cycle).toEqual(["audit", "access", "runs", "audit"]);
});

test("no rooms import each other in a circle", () => {
  expect(importsOfRooms().size).toBeGreaterThan(3);
  expect(findCycle(importsOfRooms())).toBeUndefined();
});
