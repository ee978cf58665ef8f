import { formatProblem } from "@shaman/agents";
import { expect, test } from "vitest";

import { readCatalogue } from "./read-catalogue.ts";

const read = (text: string, secrets?: string) =>
  readCatalogue({
    catalogue: { file: "catalogue.yaml", text },
    ...(secrets !== undefined && { secrets: { file: "secrets.yaml", text: secrets } }),
  });

const problemsOf = (text: string, secrets?: string): readonly string[] => {
  const result = read(text, secrets);
  return result.ok ? [] : result.error.map(formatProblem);
};

const GOOD = `servers:
  postgres:
    description: Questions to the sales database
    command: node
    args: [/opt/mcp/pg.js, "--schema={{schema}}"]
    parameters:
      type: object
      properties:
        schema: { type: string, pattern: "^[a-z]+$" }
      required: [schema]
    environment: { PGPASSWORD: sales-password }
    readOnly: [/opt/mcp, { from: /srv/docs, to: /docs }]
    limits: { memoryMb: 100, restarts: 1 }
`;

test("a catalogue is read with its defaults: no network, limits, secrets by name and hidden", () => {
  const catalogue = read(GOOD, `sales-password: "4711"`);
  if (!catalogue.ok) throw new Error(catalogue.error.map(formatProblem).join("\n"));
  const entry = catalogue.value.get("postgres");
  expect(entry).toMatchObject({
    name: "postgres",
    network: "none",
    restarts: 1,
    readOnly: [
      { from: "/opt/mcp", to: "/opt/mcp" },
      { from: "/srv/docs", to: "/docs" },
    ],
    limits: { memoryBytes: 100 * 1024 * 1024, cpuSeconds: 120, processes: 64 },
  });
  expect(entry?.environment["PGPASSWORD"]?.reveal()).toBe("4711");
  expect(JSON.stringify(entry)).not.toContain("4711");
});

test("each problem is told with its file and line", () => {
  expect(problemsOf(GOOD)).toEqual([
    "catalogue.yaml:11 postgres: environment: there is no sales-password in the file of MCP_CATALOGUE_SECRETS",
  ]);
  const many = `servers:
  a:
    description: x
    command: npx
    argz: []
    network: all
    readOnly: [/etc, ../x, { from: /opt/x, to: /proc/x }]
    limits: { memoryMb: 0 }
  b c:
    description: x
    command: node
`;
  expect(problemsOf(many).map((line) => line.split(" ", 1)[0])).toEqual(
    [4, 6, 7, 7, 7, 8, 5, 9].map((line) => `catalogue.yaml:${line}`),
  );
  expect(problemsOf(`servers:\n  a:\n    description: x\n    command: npx\n`)).toEqual([
    "catalogue.yaml:4 servers.a.command: must be node, or the absolute path of a program, without . or .. in it",
  ]);
  expect(problemsOf(`servers:\n  a:\n    description: x\n    command: node\n    arg: []\n`)).toEqual([
    "catalogue.yaml:5 unknown key servers.a.arg. Did you mean args?",
  ]);
  expect(problemsOf(`servers:\n  a:\n    description: x\n    command: node\n    network: all\n`)).toEqual([
    "catalogue.yaml:5 servers.a.network: must be none, or unfiltered: all that this machine reaches, loopback and metadata addresses included",
  ]);
  expect(problemsOf("servers: [")[0]).toMatch(/^catalogue\.yaml:\d+ is not valid YAML/);
  expect(problemsOf(GOOD, "sales-password: 4711")).toEqual([
    "secrets.yaml:1 sales-password: must be a text: put numbers in quotes",
  ]);
});

test("whole trees of the machine, and the sandbox's own places, cannot be shown", () => {
  const withBind = (bind: string) =>
    problemsOf(`servers:\n  a:\n    description: x\n    command: node\n    readOnly: [${bind}]\n`);
  for (const path of ["/", "/etc", "/home", "/root", "/proc", "/var", "relative", "/opt/../etc"]) {
    expect(withBind(path), path).toHaveLength(1);
  }
  for (const to of ["/", "/scratch/x", "/runtime", "/dev/x"]) {
    expect(withBind(`{ from: /opt/x, to: ${to} }`), to).toHaveLength(1);
  }
  expect(withBind("/opt/x")).toEqual([]);
});

test("places and parameters must belong together", () => {
  const withArgs = (args: string, more = "") =>
    problemsOf(`servers:
  a:
    description: x
    command: node
    args: [${args}]
    parameters: { type: object, properties: { folder: { type: string } } }
${more}`);
  expect(withArgs(`"{{folder}}", "{{scratch}}"`)).toEqual([]);
  expect(withArgs(`"{{folder}}", "{{other}}"`)).toEqual([
    "catalogue.yaml:5 a: args: {{other}} is no property of parameters",
  ]);
  expect(withArgs("x")).toEqual(["catalogue.yaml:6 a: parameters: folder has no place in args"]);
  expect(withArgs(`"{{folder}}"`, "    mayBeginWithDash: [x]\n")).toEqual([
    "catalogue.yaml:7 a: mayBeginWithDash: x is no property of parameters",
  ]);
  const schema = (text: string) =>
    problemsOf(`servers:\n  a:\n    description: x\n    command: node\n    parameters: ${text}\n`);
  expect(schema("{ type: string }")).toEqual(["catalogue.yaml:5 a: parameters must be of type: object"]);
  expect(schema(`{ type: object, $ref: "https://example.com/x" }`)).toEqual([
    "catalogue.yaml:5 a: parameters: the schema may refer within itself only (#/…), not to https://example.com/x",
  ]);
});

test("a program is shown with what is bound, by itself when nothing bound holds it", () => {
  const bindsOf = (command: string) => {
    const catalogue = read(`servers:\n  a:\n    description: x\n    command: ${command}\n    readOnly: [/opt/mcp]\n`);
    return catalogue.ok ? catalogue.value.get("a")?.readOnly.map(({ to }) => to) : undefined;
  };
  expect(bindsOf("/opt/mcp/bin/server")).toEqual(["/opt/mcp"]);
  expect(bindsOf("/usr/lib/tool/server")).toEqual(["/opt/mcp"]);
  expect(bindsOf("node")).toEqual(["/opt/mcp"]);
  expect(bindsOf("/usr/bin/python3")).toEqual(["/opt/mcp", "/usr/bin/python3"]);
});
