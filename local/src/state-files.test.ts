import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { writeJsonFile } from "./json-file.ts";
import { ensureLocalKeys } from "./local-keys.ts";
import { takeStateFolder } from "./state-folder.ts";

const state = { folder: "" };

beforeEach(() => {
  state.folder = mkdtempSync(join(tmpdir(), "shaman state "));
});

afterEach(() => rmSync(state.folder, { recursive: true, force: true }));

test("keys are made once, differ between installations and are only the owner's to read", () => {
  const keys = ensureLocalKeys(state.folder);
  expect(statSync(join(state.folder, "keys.json")).mode & 0o777).toBe(0o600);
  expect(ensureLocalKeys(state.folder).secretKeys.reveal()).toBe(keys.secretKeys.reveal());
  rmSync(join(state.folder, "keys.json"));
  expect(ensureLocalKeys(state.folder).secretKeys.reveal()).not.toBe(keys.secretKeys.reveal());
  expect(keys.internalJwtKeys.reveal()).toMatch(/^local:[\w-]{43}$/);
});

test("keys of an older version stay, and get what is new", () => {
  const file = join(state.folder, "keys.json");
  writeJsonFile(file, { internalJwtKeys: "local:a", secretKeys: "local:b", roleSecret: "c" });
  const keys = ensureLocalKeys(state.folder);
  expect([keys.internalJwtKeys.reveal(), keys.secretKeys.reveal(), keys.roleSecret.reveal()]).toEqual([
    "local:a",
    "local:b",
    "c",
  ]);
  expect(ensureLocalKeys(state.folder).downloadUrlKeys.reveal()).toBe(keys.downloadUrlKeys.reveal());
});

test("a JSON file is replaced whole, with mode 0600, and leaves nothing beside it", () => {
  const file = join(state.folder, "local.json");
  writeFileSync(file, "old", { mode: 0o644 });
  writeJsonFile(file, { a: 1 });
  expect(JSON.parse(readFileSync(file, "utf8"))).toEqual({ a: 1 });
  expect(statSync(file).mode & 0o777).toBe(0o600);
  expect(readdirSync(state.folder)).toEqual(["local.json"]);
});

/** A process that looks like another launcher of this checkout. */
const givenLauncher = async (folder: string, port: number) => {
  const child = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)", "local/src/main.ts"], {
    stdio: "ignore",
  });
  await once(child, "spawn");
  writeFileSync(join(folder, "launcher.pid"), `${child.pid} ${port}`);
  return {
    end: async () => {
      child.kill("SIGKILL");
      await once(child, "exit");
    },
  };
};

test("a second copy on other ports gets a folder of its own, one on the same ports is refused", async () => {
  const launcher = await givenLauncher(state.folder, 5000);
  try {
    expect(() => takeStateFolder(state.folder, 5000)).toThrow(/already runs on port 5000.*--port/);
    const second = takeStateFolder(state.folder, 6000);
    expect(second.folder).toBe(join(state.folder, "port-6000"));
    second.release();
    expect(existsSync(join(second.folder, "launcher.pid"))).toBe(false);
  } finally {
    await launcher.end();
  }
});

test("the folder of a launcher that was killed is taken over, also when its number belongs to another program now", async () => {
  const launcher = await givenLauncher(state.folder, 5000);
  await launcher.end();
  const first = takeStateFolder(state.folder, 5000);
  expect(first.folder).toBe(state.folder);
  first.release();
  writeFileSync(join(state.folder, "launcher.pid"), `${process.ppid} 5000`);
  expect(takeStateFolder(state.folder, 5000).folder).toBe(state.folder);
});
