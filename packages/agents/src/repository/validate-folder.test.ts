import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

import { err, ok, unwrap } from "@shaman/kernel";
import { afterEach, describe, expect, test } from "vitest";

import type { ParseScript } from "../definition/parse-definition.ts";
import { formatProblem } from "../definition/problem.ts";
import { validateFolder } from "./validate-folder.ts";

const folders: string[] = [];
afterEach(async () => {
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true, force: true });
});

const givenFolder = async (files: Readonly<Record<string, string | Uint8Array>>): Promise<string> => {
  const folder = await mkdtemp(join(tmpdir(), "shaman-folder-"));
  folders.push(folder);
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), content);
  }
  return folder;
};

const parseScript: ParseScript = (text, file) =>
  text.includes("broken") ? err([{ file, line: 2, message: "is broken" }]) : ok(text);

const check = async (folder: string) => {
  const report = unwrap(await validateFolder({ parseScript }, folder));
  return {
    ...report,
    problems: report.problems.map(formatProblem),
    warnings: report.warnings.map(formatProblem),
  };
};

const problemsOf = async (files: Readonly<Record<string, string | Uint8Array>>): Promise<readonly string[]> =>
  (await check(await givenFolder(files))).problems;

const agent = (frontMatter = "", body = "You help."): string => `---\ndescription: Helps\n${frontMatter}---\n${body}\n`;
const exposed = agent("exposed: true\n");

describe("a folder of agents", () => {
  test("gives its agents, aliases and default, and ignores what is no agent", async () => {
    const report = await check(
      await givenFolder({
        "ProcessOrder.md": exposed,
        "billing/Refund/prompt.md": agent("", "{{> ../../parts/tone.md}} {{prompt}}"),
        "parts/tone.md": "Be kind.\n",
        "README.md": "# About\n",
        "notes/two words.md": "no agent\n",
        ".github/ISSUE_TEMPLATE/bug.md": "---\nname: Bug\nabout: x\n---\n",
        "data.bin": new Uint8Array([0, 255, 254]),
        "agents.json": `{
  "Refunds": {"url": "billing/Refund", "aliases": ["MoneyBack"]},
  "Tax": {"url": "https://tax.example.com/a2a"},
  "default": "ProcessOrder"
}`,
      }),
    );
    expect(report.problems).toEqual([]);
    expect(report.agents.map(({ path }) => path)).toEqual(["ProcessOrder", "billing/Refund"]);
    expect(report.aliases).toEqual([
      { name: "Refunds", target: { kind: "agent", path: "billing/Refund" } },
      { name: "MoneyBack", target: { kind: "agent", path: "billing/Refund" } },
      { name: "Tax", target: { kind: "external", url: "https://tax.example.com/a2a" } },
    ]);
    expect(report.defaultAgent).toBe("ProcessOrder");
  });

  test("warns of agents under calls that are not in it, by file and line, and is in order all the same", async () => {
    const report = await check(
      await givenFolder({
        "Order.md": agent("calls:\n  - Refund\n  - billing/Refund\n  - Money\n  - Refnud\n  - other:Stock\n"),
        "billing/Refund.md": agent("calls: [TaxOffice]\n"),
        "agents.json": '{"Money": {"url": "billing/Refund"}}',
      }),
    );
    const elsewhere =
      "in this folder: somebody else of the organization has to expose it, or register it as an outside one.";
    expect(report.problems).toEqual([]);
    expect(report.agents).toHaveLength(2);
    expect(report.warnings).toEqual([
      `Order.md:7 warning: calls: there is no agent Refnud ${elsewhere} Did you mean Refund?`,
      `billing/Refund.md:3 warning: calls: there is no agent TaxOffice ${elsewhere}`,
    ]);
  });

  test("is refused as a whole, with every problem in order of file and line", async () => {
    const report = await check(
      await givenFolder({
        "Good.md": exposed,
        "Bad.md": agent("colour: red\n", "{{> no.md}}"),
        "Worse/prompt.md": "no front matter",
        "Scripted.md": agent("model: scripted/s.yaml\n"),
        "Scripted2.md": agent("model: scripted/s.yaml\n"),
        "s.yaml": "a\nbroken",
      }),
    );
    expect(report.agents).toEqual([]);
    expect(report.problems).toEqual([
      "Bad.md:3 unknown key colour.",
      "Worse/prompt.md:1 has no front matter: an agent begins with --- alone on the first line",
      "s.yaml:2 is broken",
    ]);
  });

  test("that holds one name twice is refused with both places", async () => {
    expect(await problemsOf({ "a/Refund.md": agent(), "b/Refund/prompt.md": agent() })).toEqual([
      expect.stringMatching(/^b\/Refund\/prompt\.md:1 the name Refund is already that of the agent in a\/Refund\.md/),
    ]);
    expect(await problemsOf({ "Refund.md": agent(), "REFUND/prompt.md": agent() })).toEqual([
      expect.stringMatching(/^Refund\.md:1 the name Refund is already that of the agent in REFUND\/prompt\.md/),
    ]);
  });

  test("may hold an include that is shared, and refuses files that are not text", async () => {
    expect(await problemsOf({ "A.md": agent("", "{{> x.md}}"), "x.md": new Uint8Array([255, 254]) })).toEqual([
      "A.md:4 include x.md is not UTF-8 text",
    ]);
    expect(await problemsOf({ "A/prompt.md": new Uint8Array([255]) })).toEqual(["A/prompt.md:1 is not UTF-8 text"]);
    expect(await problemsOf({ "A/prompt.md": "---\0" })).toEqual(["A/prompt.md:1 is not UTF-8 text"]);
  });

  test("is refused when an agent is a link, and a link to a folder leads nowhere", async () => {
    const folder = await givenFolder({ "Good.md": exposed, "elsewhere/x.md": "x" });
    await symlink("/etc/passwd", join(folder, "Evil.md"));
    await symlink("/etc", join(folder, "etc"));
    await writeFile(join(folder, "Reader.md"), agent("", "{{> etc/passwd}}{{> link.txt}}"));
    await symlink("/etc/passwd", join(folder, "link.txt"));
    await symlink("elsewhere/x.md", join(folder, "README.md"));
    expect((await check(folder)).problems).toEqual([
      "Evil.md:1 is a symbolic link, which is never followed: put an ordinary file here",
      "Reader.md:4 include etc/passwd does not exist",
      "Reader.md:4 include link.txt is a symbolic link, which is never followed: put an ordinary file here",
    ]);
  });

  test("is refused when an agent is too large, without reading it", async () => {
    const problems = await problemsOf({
      "Huge.md": Buffer.alloc(300 * 1024, "x"),
      "Large/prompt.md": agent("", "x".repeat(70_000)),
      "Medium.md": agent("", "x".repeat(70_000)),
      "notes.md": "x".repeat(70_000),
      "CHANGELOG.md": "x".repeat(300_000),
    });
    expect(problems).toEqual([
      "Huge.md:1 is larger than 64 kB, the limit of an agent file: it has 307200 bytes",
      expect.stringMatching(/^Large\/prompt\.md:1 is larger than 64 kB/),
      "Medium.md:1 is larger than 64 kB, the limit of an agent file",
    ]);
  });

  test("that does not exist is an error of its own", async () => {
    const report = await validateFolder({ parseScript }, join(tmpdir(), "shaman-no-such-folder"));
    expect(report.ok ? "" : report.error.code).toBe("folder_not_found");
  });

  test("may hold 2,000 files and 1,000 agents, and no more", async () => {
    const many = (count: number, name: (index: number) => string, text: string) =>
      Object.fromEntries(Array.from({ length: count }, (_, index) => [name(index), text]));
    const agents = many(1_000, (index) => `A${index}.md`, agent());
    expect(await problemsOf({ ...agents, ...many(1_000, (index) => `f/${index}.txt`, "x") })).toEqual([]);
    expect((await problemsOf({ ...agents, "B.md": agent() }))[0]).toMatch(/^\.:1 .*more than 1000 agents/);
    expect((await problemsOf(many(2_001, (index) => `${index}.txt`, "x")))[0]).toMatch(/more than 2000 files/);
  });
});

describe("agents.json", () => {
  const withJson = (json: string) => problemsOf({ "Order.md": exposed, "Hidden.md": agent(), "agents.json": json });

  test("is refused with the line of each problem", async () => {
    expect(await withJson('{\n  "Tax": {"url": "no/Such"},\n  "default": "Hidden"\n}')).toEqual([
      "agents.json:2 Tax.url is no agent of this repository: no/Such.",
      "agents.json:3 default: Hidden is private: a default agent must be exposed",
    ]);
    expect(await withJson('{\n  "A": {"url": "Order",\n  "aliases": ["B", "b"]},\n  "C": {"uri": "x"},\n}')).toEqual([
      expect.stringMatching(/^agents\.json:5 is not valid JSON/),
    ]);
    expect(await withJson('{\n  "A": {"url": "Order",\n  "aliases": ["B", "b"]},\n  "C": {"uri": "x"}}')).toEqual([
      "agents.json:3 alias b is there twice",
      expect.stringMatching(/^agents\.json:4 C\.url/),
      "agents.json:4 C: must be {url, aliases}",
    ]);
    expect(await withJson('{"default": "Ordr"}')).toEqual([
      "agents.json:1 default: is no agent of this repository: Ordr. Did you mean Order?",
    ]);
    expect(await withJson('{"A": {"url": "Order"}, "A": {"url": "Order"}}')).toEqual([expect.stringMatching(/unique/)]);
    expect(await withJson("[]")).toHaveLength(1);
    expect(await withJson("")).toHaveLength(1);
  });

  test("cannot hide an agent, use a reserved word, or lead outside without an address", async () => {
    expect(await withJson('{"order": {"url": "Hidden"}}')).toEqual([
      'agents.json:1 alias "order" would hide the agent Order of this repository',
    ]);
    expect(await withJson('{"Order": {"url": "./Order.md", "aliases": ["Bestellung"]}}')).toEqual([]);
    expect(await withJson('{"tasks": {"url": "Order"}}')).toEqual([expect.stringMatching(/is reserved/)]);
    expect(await withJson('{"A": {"url": "../Order"}}')).toEqual([expect.stringMatching(/is no agent/)]);
    expect(await withJson('{"A": {"url": "https://user:word@example.com/"}}')).toEqual([
      expect.stringMatching(/not a usable address/),
    ]);
    expect(await withJson('{"A": {"url": "file:///etc/passwd"}}')).toEqual([
      expect.stringMatching(/must be an https address/),
    ]);
  });
});
