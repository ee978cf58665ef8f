import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const root = join(import.meta.dirname, "..", "..");
const folder = mkdtempSync(join(tmpdir(), "shaman checkers "));

afterAll(() => rmSync(folder, { recursive: true, force: true }));

const run = (tool: string, args: readonly string[], cwd: string): { status: number | null; output: string } => {
  const result = spawnSync(join(root, "node_modules", ".bin", tool), args, { cwd, encoding: "utf8" });
  return { status: result.status, output: result.stdout + result.stderr };
};

/** Writes a small project and gives its folder. */
const project = (name: string, files: Readonly<Record<string, string>>): string => {
  const base = join(folder, name);
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(base, path)), { recursive: true });
    writeFileSync(join(base, path), text);
  }
  return base;
};

const TSCONFIG = JSON.stringify({
  compilerOptions: {
    ...Object(JSON.parse(readFileSync(join(root, "tsconfig.json"), "utf8")).compilerOptions),
    types: [],
  },
});

type Breach = { readonly path: string; readonly code: string; readonly rule: string };

const breaches: Readonly<Record<string, Breach>> = {
  "an import that goes up": {
    path: "packages/kernel/src/up.ts",
    code: 'import { x } from "@shaman/runs";\nexport const y = x;\n',
    rule: "shaman(import-law)",
  },
  "a type import that goes up": {
    path: "packages/db/src/up-type.ts",
    code: 'import type { X } from "@shaman/engine";\nexport type Y = X;\n',
    rule: "shaman(import-law)",
  },
  "an import type that goes up": {
    path: "packages/db/src/up-import-type.ts",
    code: 'export type Y = import("@shaman/engine").X;\n',
    rule: "shaman(import-law)",
  },
  "a re-export that goes up": {
    path: "packages/audit/src/up-export.ts",
    code: 'export { x } from "@shaman/llm";\n',
    rule: "shaman(import-law)",
  },
  "a dynamic import that goes up": {
    path: "worker/src/up-dynamic.ts",
    code: 'export const load = (): Promise<unknown> => import("@shaman/engine");\n',
    rule: "shaman(import-law)",
  },
  "an import around a room's door": {
    path: "packages/runs/src/deep.ts",
    code: 'import { x } from "@shaman/db/src/pool.ts";\nexport const y = x;\n',
    rule: "shaman(import-law)",
  },
  "a read of the environment in a package": {
    path: "packages/runs/src/env.ts",
    code: "export const url = process.env.DATABASE_URL;\n",
    rule: "shaman(environment-at-the-edge)",
  },
  "a read of the environment by destructuring": {
    path: "packages/runs/src/env-destructured.ts",
    code: "const { env } = process;\nexport const url = env.DATABASE_URL;\n",
    rule: "shaman(environment-at-the-edge)",
  },
  "a read of the environment by import": {
    path: "a2a/src/env-imported.ts",
    code: 'import { env } from "node:process";\nexport const url = env.DATABASE_URL;\n',
    rule: "shaman(environment-at-the-edge)",
  },
  "an export of everything": {
    path: "packages/runs/src/index.ts",
    code: 'export * from "./env.ts";\n',
    rule: "shaman(explicit-exports)",
  },
  "a cast without a reason": {
    path: "packages/runs/src/cast.ts",
    code: 'export const x = JSON.parse("1") as number;\n',
    rule: "shaman(explained-cast)",
  },
  any: {
    path: "packages/runs/src/any.ts",
    code: "export const x = (y: any): unknown => y;\n",
    rule: "typescript(no-explicit-any)",
  },
  "a non-null assertion": {
    path: "packages/runs/src/non-null.ts",
    code: "export const x = (y: string | undefined): string => y!;\n",
    rule: "typescript(no-non-null-assertion)",
  },
  "a default export": {
    path: "packages/runs/src/default.ts",
    code: "const x = 1;\nexport default x;\n",
    rule: "import(no-default-export)",
  },
  "console output in a package": {
    path: "packages/runs/src/console.ts",
    code: 'console.log("x");\nexport const x = 1;\n',
    rule: "eslint(no-console)",
  },
  "a request that is not guarded": {
    path: "packages/agents/src/request.ts",
    code: 'export const x = (): Promise<Response> => fetch("http://example.com");\n',
    rule: "eslint(no-restricted-globals)",
  },
  "a promise nobody waits for": {
    path: "packages/runs/src/floating.ts",
    code: "export const x = (): void => {\n  Promise.resolve(1);\n};\n",
    rule: "typescript(no-floating-promises)",
  },
  "a switch that forgets a case": {
    path: "packages/runs/src/switch.ts",
    code: 'export const x = (y: "a" | "b"): void => {\n  switch (y) {\n    case "a":\n      break;\n  }\n};\n',
    rule: "typescript(switch-exhaustiveness-check)",
  },
};

const CLEAN = {
  path: "packages/engine/src/clean.ts",
  code: 'import { newId } from "@shaman/kernel";\n\nexport const runIds = ["run"].map(() => newId("run"));\n',
};

// Each starts whole programs, several of them at once with the other tests.
const TIMEOUT_MS = 90_000;

describe("oxlint reports", { timeout: TIMEOUT_MS }, () => {
  const reported: { path: string; rule: string }[] = [];

  beforeAll(() => {
    const config: unknown = JSON.parse(readFileSync(join(root, ".oxlintrc.json"), "utf8"));
    const plugin = join(root, "scripts", "lint", "plugin.mjs");
    const cwd = project("lint", {
      ".oxlintrc.json": JSON.stringify({ ...Object(config), jsPlugins: [plugin] }),
      "tsconfig.json": TSCONFIG,
      [CLEAN.path]: CLEAN.code,
      ...Object.fromEntries(Object.values(breaches).map(({ path, code }) => [path, code])),
    });
    const { output } = run("oxlint", ["--format", "json"], cwd);
    const { diagnostics } = JSON.parse(output) as { diagnostics: { filename: string; code: string }[] };
    reported.push(...diagnostics.map(({ filename, code }) => ({ path: filename, rule: code })));
  }, TIMEOUT_MS);

  test.each(Object.entries(breaches))("%s", (_name, { path, rule }) => {
    expect(reported).toContainEqual({ path, rule });
  });

  test("nothing in a file that keeps the law", () => {
    expect(reported.filter(({ path }) => path === CLEAN.path)).toEqual([]);
  });
});

describe("the check fails on", { timeout: TIMEOUT_MS }, () => {
  const MANIFEST = { name: "x", private: true, type: "module", packageManager: "pnpm@12.21.0" };

  test("a badly formatted file (oxfmt)", () => {
    const cwd = project("format", {
      ".oxfmtrc.json": readFileSync(join(root, ".oxfmtrc.json"), "utf8"),
      "bad.ts": "export const   x=1\n",
    });
    expect(run("oxfmt", ["--check", "."], cwd)).toMatchObject({ status: 1, output: expect.stringContaining("bad.ts") });
  });

  test("a type error (tsc)", () => {
    const cwd = project("types", {
      "tsconfig.json": TSCONFIG,
      "bad.ts": "export const x = (y: string[]): string => y[0];\n",
    });
    expect(run("tsc", ["--noEmit", "-p", "."], cwd)).toMatchObject({
      status: expect.not.toBeOneOf([0]),
      output: expect.stringContaining("TS2322"),
    });
  });

  test("a file nobody uses and a dependency nobody imports (knip)", () => {
    const cwd = project("knip", {
      "package.json": JSON.stringify({ ...MANIFEST, dependencies: { zod: "4" } }),
      "knip.json": JSON.stringify({ entry: ["main.ts"], project: ["*.ts"] }),
      "main.ts": "export const x = 1;\n",
      "unused.ts": "export const y = 1;\n",
    });
    const { status, output } = run("knip", [], cwd);
    expect(status).toBe(1);
    expect(output).toContain("unused.ts");
    expect(output).toContain("zod");
  });

  test("two versions of one dependency (sherif)", () => {
    const cwd = project("sherif", {
      "package.json": JSON.stringify(MANIFEST),
      "pnpm-workspace.yaml": "packages:\n  - a\n  - b\n",
      "a/package.json": JSON.stringify({ name: "a", private: true, dependencies: { zod: "4.0.0" } }),
      "b/package.json": JSON.stringify({ name: "b", private: true, dependencies: { zod: "3.0.0" } }),
    });
    const { status, output } = run("sherif", [], cwd);
    expect(status).toBe(1);
    expect(output).toContain("multiple-dependency-versions");
  });

  test.each([
    ["a failing test", 'test("x", () => expect(1).toBe(2));'],
    ["a forgotten .only", 'test.only("x", () => expect(1).toBe(1));\ntest("y", () => expect(1).toBe(1));'],
  ])("%s (vitest)", (name, code) => {
    const cwd = project(name, { "x.test.ts": `import { expect, test } from "vitest";\n${code}\n` });
    const args = ["run", "--root", cwd, "--config", join(root, "vitest.config.ts"), "--project", "unit"];
    expect(run("vitest", args, root).status).toBe(1);
  });
});
