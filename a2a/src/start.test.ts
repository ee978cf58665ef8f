import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "shaman-start-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** What an internal server with this catalogue says until it ends. Nothing else of what it needs is there. */
const startWith = async (catalogue: string): Promise<{ readonly code: unknown; readonly said: string }> => {
  const file = join(folder, "catalogue.yaml");
  await writeFile(file, catalogue);
  const env = {
    PATH: process.env.PATH ?? "",
    DATABASE_URL: "postgres://shaman_internal:x@127.0.0.1:1/shaman",
    INTERNAL_JWT_KEYS: `test:${randomBytes(32).toString("base64url")}`,
    SHAMAN_SECRET_KEYS: `test:${randomBytes(32).toString("base64url")}`,
    MCP_CATALOGUE: file,
  };
  const args = [join(import.meta.dirname, "main.ts"), "--role", "internal", "--port", "0"];
  return new Promise((resolve) => {
    execFile(process.execPath, args, { env }, (error, stdout, stderr) => {
      resolve({ code: error?.code, said: `${stdout}${stderr}`.replaceAll(file, "catalogue.yaml") });
    });
  });
};

test("a mistake in the operator's MCP catalogue is one sentence with its file and line, told before anything is opened", async () => {
  const begin =
    "a2a --role internal: does not start until this is mended in the catalogue of MCP servers: catalogue.yaml";
  expect(await startWith("servers:\n  a:\n    description: x\n    command: npx\n    arg: []\n")).toEqual({
    code: 1,
    said: [
      `${begin}:4 servers.a.command: must be node, or the absolute path of a program, without . or .. in it\n`,
      `${begin}:5 unknown key servers.a.arg. Did you mean args?\n`,
    ].join(""),
  });
  const broken = await startWith("servers: [");
  expect(broken.code).toBe(1);
  expect(broken.said.split("\n")).toEqual([expect.stringMatching(/catalogue\.yaml:\d+ is not valid YAML: /), ""]);
});
