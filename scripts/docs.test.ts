import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";

const root = dirname(import.meta.dirname);
const decisions = readdirSync(join(root, "docs", "decisions")).toSorted();
const DOCUMENTS = ["README.md", "ARCHITECTURE.md", ...decisions.map((name) => `docs/decisions/${name}`)];

const textOf = (path: string): string => readFileSync(join(root, path), "utf8");

type Exists = (path: string) => boolean;

const existsHere: Exists = (path) => existsSync(join(root, path));

/**
 * What a text calls a path of this repository: text in backticks that begins with a folder or file of the root. State
 * that only exists while something runs (`.shaman/…`) is none.
 */
const pathsIn = (text: string, exists: Exists): readonly string[] => {
  const prose = text.replace(/^```[^]*?^```$/gm, "");
  const quoted = [...prose.matchAll(/`([^`\n]+)`/g)].map(([, path = ""]) => path.replace(/\/$/, ""));
  return quoted.filter(
    (path) => /^[\w.-]+(?:\/[\w.-]+)*$/.test(path) && !path.startsWith(".shaman") && exists(path.split("/")[0] ?? ""),
  );
};

const missingIn = (text: string, exists: Exists): readonly string[] => [
  ...new Set(pathsIn(text, exists).filter((path) => !exists(path))),
];

test("a path that does not exist is found, and words that are no paths are left alone", () => {
  const files = new Set(["packages", "packages/db", "packages/db/src.ts", "a2a", ".shaman"]);
  const exists: Exists = (path) => files.has(path);
  const text =
    "`packages/db/src.ts` `packages/db/gone.ts` `a2a/` `run_event` `git/x` `.shaman/repos`\n```\n`a2a/no`\n```\n";
  expect(pathsIn(text, exists)).toEqual(["packages/db/src.ts", "packages/db/gone.ts", "a2a"]);
  expect(missingIn(text, exists)).toEqual(["packages/db/gone.ts"]);
});

test("every path that README, ARCHITECTURE and the decisions name exists", () => {
  const missing = DOCUMENTS.map((document) => ({ document, missing: missingIn(textOf(document), existsHere) }));
  expect(missing.filter((each) => each.missing.length > 0)).toEqual([]);
  expect(pathsIn(textOf("ARCHITECTURE.md"), existsHere).length).toBeGreaterThan(60);
});

test("ARCHITECTURE names every room", () => {
  const named = pathsIn(textOf("ARCHITECTURE.md"), existsHere);
  const workspace = textOf("pnpm-workspace.yaml");
  const apps = [...workspace.matchAll(/^ {2}- (\w+)$/gm)].map(([, app = ""]) => app);
  const packages = readdirSync(join(root, "packages")).map((name) => `packages/${name}`);
  expect([...apps, ...packages].filter((room) => !named.includes(room))).toEqual([]);
});

test("every npm script that README tells to run exists", () => {
  const { scripts }: { scripts: Record<string, string> } = JSON.parse(textOf("package.json"));
  const named = [...textOf("README.md").matchAll(/npm (?:run )?(start|test|run \w+|(?<=run )\w+)/g)].map(
    ([, name = ""]) => name,
  );
  expect(named).toContain("migrate");
  expect(named.filter((name) => scripts[name] === undefined)).toEqual([]);
});

test("decisions are numbered from 001 without gap or repeat, and are short", () => {
  expect(decisions.map((name) => name.slice(0, 4))).toEqual(
    decisions.map((_, index) => `${String(index + 1).padStart(3, "0")}-`),
  );
  for (const name of decisions) {
    const lines = textOf(`docs/decisions/${name}`).split("\n");
    expect(lines[0], name).toMatch(new RegExp(`^# ${name.slice(0, 3)} `));
    expect(lines.length, name).toBeLessThanOrEqual(50);
  }
});
