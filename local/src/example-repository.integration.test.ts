import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { ensureExampleRepository } from "./example-repository.ts";

const state = { folder: "", source: "", repository: "" };

beforeEach(() => {
  state.folder = mkdtempSync(join(tmpdir(), "shaman examples "));
  state.source = join(state.folder, "order-desk");
  state.repository = join(state.folder, "repos", "acme");
  mkdirSync(join(state.source, "Agent"), { recursive: true });
  writeFileSync(join(state.source, "Agent", "prompt.md"), "one\r\n");
});

afterEach(() => rmSync(state.folder, { recursive: true, force: true }));

const git = (...args: readonly string[]): string =>
  execFileSync("git", ["--git-dir", state.repository, ...args], { encoding: "utf8" }).trim();

const ensure = (): Promise<void> =>
  ensureExampleRepository({ source: state.source, repository: state.repository, path: process.env.PATH });

test("the repository holds the files of the folder byte for byte, and a second time nothing changes", async () => {
  await ensure();
  const first = git("rev-parse", "main");
  expect(git("ls-tree", "-r", "--name-only", "main")).toBe("Agent/prompt.md");
  expect(execFileSync("git", ["--git-dir", state.repository, "cat-file", "blob", "main:Agent/prompt.md"])).toEqual(
    Buffer.from("one\r\n"),
  );
  await ensure();
  expect(git("rev-parse", "main")).toBe(first);
});

test("changed and removed files of the folder become a further commit", async () => {
  await ensure();
  const first = git("rev-parse", "main");
  rmSync(join(state.source, "Agent"), { recursive: true });
  writeFileSync(join(state.source, "Other.md"), "two\n");
  await ensure();
  expect(git("ls-tree", "-r", "--name-only", "main")).toBe("Other.md");
  expect(git("rev-parse", "main^")).toBe(first);
});

test("a repository in which somebody works is left alone", async () => {
  await ensure();
  const clone = join(state.folder, "clone");
  execFileSync("git", ["clone", "--quiet", state.repository, clone]);
  writeFileSync(join(clone, "Mine.md"), "mine\n");
  const identity = ["-c", "user.name=Me", "-c", "user.email=me@example.com"];
  execFileSync("git", ["-C", clone, "add", "."]);
  execFileSync("git", ["-C", clone, ...identity, "commit", "--quiet", "-m", "mine"]);
  execFileSync("git", ["-C", clone, "push", "--quiet", "origin", "main"]);
  const mine = git("rev-parse", "main");
  writeFileSync(join(state.source, "Other.md"), "two\n");
  await ensure();
  expect(git("rev-parse", "main")).toBe(mine);
});

test("a machine without git is told so in a sentence", async () => {
  const { source, repository } = state;
  await expect(ensureExampleRepository({ source, repository, path: "/nonexistent" })).rejects.toMatchObject({
    code: "git_missing",
    message: expect.stringContaining("install git"),
  });
});
