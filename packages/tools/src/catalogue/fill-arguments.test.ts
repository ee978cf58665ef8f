import { formatProblem } from "@shaman/agents";
import type { JsonObject } from "@shaman/kernel";
import { expect, test } from "vitest";

import { fillArguments } from "./fill-arguments.ts";
import { readCatalogue } from "./read-catalogue.ts";

const entryOf = (args: readonly string[], properties: JsonObject, more = "") => {
  const text = `servers:
  tool:
    description: x
    command: node
    args: ${JSON.stringify(args)}
    parameters: ${JSON.stringify({ type: "object", properties })}
    ${more}
`;
  const catalogue = readCatalogue({ catalogue: { file: "c.yaml", text } });
  if (!catalogue.ok) throw new Error(catalogue.error.map(formatProblem).join("\n"));
  const entry = catalogue.value.get("tool");
  if (entry === undefined) throw new Error("no entry");
  return entry;
};

const filled = (entry: ReturnType<typeof entryOf>, parameters: JsonObject) => {
  const result = fillArguments(entry, parameters, { scratch: "/scratch" });
  return result.ok ? result.value : result.error.message;
};

const anything = {};
const text = { type: "string" };

test("a value is one argument, whatever it holds", () => {
  const entry = entryOf(["run", "--schema={{schema}}", "{{folder}}", "{{scratch}}/x"], { schema: text, folder: text });
  const nasty = "a b\n'\"; $(reboot) `x` {{scratch}} --help";
  expect(filled(entry, { schema: nasty, folder: nasty })).toEqual(["run", `--schema=${nasty}`, nasty, "/scratch/x"]);
});

test("a value cannot become an option, unless the operator says so", () => {
  const entry = entryOf(["{{folder}}", "--x={{schema}}"], { schema: text, folder: text });
  expect(filled(entry, { folder: "--eval=1", schema: "a" })).toContain("folder must not begin with -");
  expect(filled(entry, { folder: "-", schema: "a" })).toContain("folder must not begin with -");
  expect(filled(entry, { folder: "a", schema: "--eval" })).toEqual(["a", "--x=--eval"]);
  const two = entryOf(["{{a}}{{b}}"], { a: text, b: text });
  expect(filled(two, { a: "", b: "-e" })).toContain("must not begin with -");
  const list = entryOf(["{{folders}}"], { folders: anything });
  expect(filled(list, { folders: ["a", "-b"] })).toContain("folders must not begin with -");
  expect(filled(list, { folders: -5 })).toContain("folders must not begin with -");
  expect(filled(entryOf(["{{n}}"], { n: { type: "number" } }, "mayBeginWithDash: [n]"), { n: -5 })).toEqual(["-5"]);
});

test("a list is one argument an item where it stands alone, and joined within a longer one", () => {
  const entry = entryOf(["{{folders}}", "--also={{folders}}"], { folders: { type: "array", items: text } });
  expect(filled(entry, { folders: ["/a", "/b"] })).toEqual(["/a", "/b", "--also=/a,/b"]);
  expect(filled(entry, { folders: [] })).toEqual(["--also="]);
});

test("an argument whose parameter is not given is left out, and a default of the schema is given", () => {
  const entry = entryOf(["--limit={{limit}}", "--sort={{sort}}"], { limit: { default: 10 }, sort: text });
  expect(filled(entry, {})).toEqual(["--limit=10"]);
  expect(filled(entry, { limit: 5, sort: "name" })).toEqual(["--limit=5", "--sort=name"]);
});

test("what the schema does not allow is refused: unknown names, wrong values, structures, endless texts, NUL", () => {
  const entry = entryOf(["{{a}}"], { a: { type: "string", pattern: "^[a-z]*$" } });
  expect(filled(entry, { b: 1 })).toContain("there is no b");
  expect(filled(entry, { a: "A" })).toContain("do not fit");
  expect(filled(entry, { a: 1 })).toContain("do not fit");
  expect(filled(entry, { constructor: "x" })).toContain("there is no constructor");
  const open = entryOf(["{{a}}"], { a: anything });
  for (const value of [{ b: 1 }, [["x"]], null, "x".repeat(4_097), "a\0b", Array.from({ length: 65 }, () => "x")]) {
    expect(filled(open, { a: value }), JSON.stringify(value)).toContain("a must be a short text");
  }
});
