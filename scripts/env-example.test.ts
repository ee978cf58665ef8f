import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { expect, test } from "vitest";

const root = join(import.meta.dirname, "..");
const APPS = ["web", "a2a", "worker", "cli", "local"];

/** Names in the form `NAME=` or `# NAME=` at the beginning of a line. */
const namesIn = (text: string): readonly string[] =>
  [...text.matchAll(/^(?:# ?)?([A-Z][A-Z0-9_]*)=/gm)].map(([, name = ""]) => name);

/** The variables of all readers that the `config.ts` of an app exports as `readers`. */
const namesReadBy = async (app: string): Promise<readonly string[]> => {
  const file = join(root, app, "src", "config.ts");
  if (!existsSync(file)) return [];
  const module: unknown = await import(pathToFileURL(file).href);
  const readers: unknown = Object(module).readers;
  expect(readers, `${app}/src/config.ts must export readers`).toBeTypeOf("object");
  return Object.values(Object(readers)).flatMap((reader) => Object.keys(Object(Object(reader).variables)));
};

const differences = (
  documented: readonly string[],
  read: readonly string[],
): { missing: string[]; superfluous: string[] } => ({
  missing: read.filter((name) => !documented.includes(name)),
  superfluous: documented.filter((name) => !read.includes(name)),
});

test("a variable that is only read, or only documented, is found", () => {
  const documented = namesIn("# About it.\nA=1\n# B=2\n#C=3\nNot a name=4\n");
  expect(documented).toEqual(["A", "B", "C"]);
  expect(differences(documented, ["A", "B", "D"])).toEqual({ missing: ["D"], superfluous: ["C"] });
});

test(".env.example names every variable that an app reads, once, and no other", async () => {
  const documented = namesIn(readFileSync(join(root, ".env.example"), "utf8"));
  const read = new Set((await Promise.all(APPS.map(namesReadBy))).flat());
  expect(differences(documented, [...read])).toEqual({ missing: [], superfluous: [] });
  expect(documented).toEqual([...new Set(documented)]);
});
