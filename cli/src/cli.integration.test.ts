import { randomBytes } from "node:crypto";
import { mkdtemp, mkdir, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createAuthenticator } from "@shaman/access";
import { recordAudit, sealAudit } from "@shaman/audit";
import { createListener } from "@shaman/db";
import { systemClock } from "@shaman/kernel";
import { testDatabase, type TestDatabase, runProgram, type Ended, type ProgramOptions } from "@shaman/testkit";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { z } from "zod";
import { runCli } from "./run-cli.scene.ts";

const ROOT = join(import.meta.dirname, "..", "..");

let database: TestDatabase;
let folder: string;
const secretKeys = `test:${randomBytes(32).toString("base64url")}`;

beforeAll(async () => {
  database = await testDatabase();
  folder = await mkdtemp(join(tmpdir(), "shaman cli "));
});
afterAll(async () => {
  await database.close();
  await rm(folder, { recursive: true, force: true });
});

const shaman = (args: readonly string[], options: ProgramOptions = {}): Promise<Ended> =>
  runCli(args, {
    cwd: folder,
    ...options,
    env: { DATABASE_URL: database.roleUrls.web.reveal(), SHAMAN_SECRET_KEYS: secretKeys, ...options.env },
  });

const json = async (args: readonly string[], options: ProgramOptions = {}): Promise<Record<string, unknown>> => {
  const result = await shaman([...args, "--json"], options);
  expect(result.err).toBe("");
  return z.record(z.string(), z.unknown()).parse(JSON.parse(result.out));
};

const text = (value: unknown): string => z.string().parse(value);

let made = 0;
const givenOrg = async () => {
  made += 1;
  const slug = `cli-${made}`;
  const organization = await json(["org", "create", slug, "A company"]);
  return { slug, orgId: text(organization["id"]) };
};

const isGood = async (orgId: string, presentedKey: unknown): Promise<boolean> => {
  const authenticator = createAuthenticator({
    db: database.as("public"),
    clock: systemClock,
    origin: { server: "test" },
  });
  return (await authenticator.authenticate({ orgId, presentedKey: text(presentedKey), ip: undefined })).ok;
};

describe("the command line", () => {
  test("runs as ./shaman from any folder, through a link and from a path with spaces", async () => {
    const link = join(folder, "a link to shaman");
    await symlink(join(ROOT, "shaman"), link);
    const result = await runProgram(link, ["--help"]);
    expect(result).toMatchObject({ code: 0 });
    expect(result.out).toContain("Usage: shaman");
  });

  test.each([
    ["an unknown command", ["nonsense"]],
    ["a missing argument", ["org", "create"]],
    ["an unknown option", ["org", "list", "--nonsense"]],
    ["an option of the wrong kind", ["org", "list", "--limit", "many"]],
    ["agents given twice", ["key", "create", "k", "--all-agents", "--agent", "A"]],
    ["no agents", ["key", "create", "k"]],
    ["a time that is over", ["key", "create", "k", "--all-agents", "--expires", "2001-01-01"]],
    ["nothing", []],
  ])("answers %s on standard error with exit code 2", async (_, args) => {
    const result = await shaman(args);
    expect(result.code).toBe(2);
    expect(result.err).not.toBe("");
    expect(result.out).toBe("");
  });

  test("says in a sentence what is missing, with exit code 1, and never a stack", async () => {
    const env = { DATABASE_URL: "postgres://shaman_web:secret-password@127.0.0.1:1/none" };
    const away = await shaman(["org", "list"], { env });
    expect(away).toMatchObject({ code: 1, out: "" });
    expect(away.err).toMatch(/^shaman: PostgreSQL cannot be reached .*\n$/);
    const wrong = await shaman(["org", "list"], { env: { DATABASE_URL: "mysql://x" } });
    expect(wrong).toMatchObject({ code: 1, out: "" });
    expect(wrong.err).toContain("DATABASE_URL: must begin with postgres://");
    for (const { err } of [away, wrong]) expect(err).not.toMatch(/at .*\.ts|secret-password/);
  });

  test("refuses the database's owner, who could see past row-level security", async () => {
    const result = await shaman(["doctor"], { env: { DATABASE_URL: database.ownerUrl.reveal() } });
    expect(result.code).toBe(1);
    expect(result.out).toContain("can bypass row-level security");
  });
});

describe("organizations", () => {
  test("are made and listed, for people and for scripts", async () => {
    const { slug, orgId } = await givenOrg();
    const list = await json(["org", "list", "--limit", "200"]);
    expect(list["organizations"]).toContainEqual(expect.objectContaining({ id: orgId, slug, name: "A company" }));
    expect(list["endCursor"]).toBeNull();
    const shown = await shaman(["org", "list"]);
    expect(shown.out).toMatch(/^SLUG +NAME +ID +CREATED\n/);
    expect(shown.out).toContain(orgId);
    const again = await shaman(["org", "create", slug]);
    expect(again).toMatchObject({ code: 1, out: "" });
    expect(again.err).toContain("already");
  });

  test("must be named where there are several, by option or by variable", async () => {
    const [one] = [await givenOrg(), await givenOrg()];
    const vague = await shaman(["key", "list"]);
    expect(vague.code).toBe(1);
    expect(vague.err).toContain("--org");
    const unknown = await shaman(["key", "list", "--org", "nobody"]);
    expect(unknown.err).toContain('There is no organization "nobody"');
    for (const result of [
      await shaman(["key", "list"], { env: { SHAMAN_ORG: one.slug } }),
      await shaman(["key", "list", "--org", one.slug]),
      await shaman(["key", "list", "-o", one.orgId]),
    ]) {
      expect(result).toMatchObject({ code: 0, err: "" });
      expect(result.out).toContain(`./shaman key create "My app" --all-agents --org ${one.slug}`);
    }
  });
});

describe("what is given wrongly", () => {
  test.each([
    [["mcp", "add", "bad name", "http://127.0.0.1:1"], "name: must be 1 to 64 letters, digits, - or _."],
    [["key", "create", "k", "--all-agents", "--rate", "-5"], "ratePerSecond: must be at least 0."],
    [["key", "create", "k".repeat(200), "--all-agents"], "name: must have at most 100 characters."],
    [["run", "list", "--agent", "x".repeat(600)], "agent: must have at most 512 characters."],
    [["model", "set-alias", "a/b", "openai/x"], "modelAliases.a/b: must be a name without a slash."],
    [["model", "set-cache", "40d"], "modelCache.seconds: must be a whole number from 0 to 2592000."],
    [["model", "set-cache", "long"], "span: must be off, or must be a span such as 60s, 5m or 12h."],
    [["repo", "add", "https://example.com/x.git", "--name", "a b"], "name: must be 1 to 64 letters, digits, - or _."],
    [["org", "create", "A_b"], "slug: may hold a-z, 0-9 and - inside, like a host name."],
  ])("%j is answered with one sentence of ours", async (args, message) => {
    const { slug } = await givenOrg();
    const result = await shaman(args[0] === "org" ? args : [...args, "--org", slug]);
    expect(result).toMatchObject({ out: "", err: `shaman: ${message}\n` });
    expect(result.code).not.toBe(0);
  });
});

describe("API keys", () => {
  test("are created once shown, listed without their secret, rotated with grace, and revoked", async () => {
    const { slug, orgId } = await givenOrg();
    const options = ["--agent", "Order", "Tax", "--ip", "10.0.0.0/8", "--expires", "90d", "--rate", "0", "--test"];
    const created = await json(["key", "create", "My app", "--org", slug, ...options]);
    expect(created).toMatchObject({
      name: "My app",
      agents: ["Order", "Tax"],
      allowedIps: ["10.0.0.0/8"],
      ratePerSecond: 0,
      state: "active",
    });
    expect(text(created["key"])).toMatch(/^sk_test_/);

    const plain = await json(["key", "create", "Plain", "--org", slug, "--all-agents"]);
    expect(await isGood(orgId, plain["key"])).toBe(true);
    const list = await json(["key", "list", "--org", slug]);
    expect(list["keys"]).toHaveLength(2);
    expect(JSON.stringify(list)).not.toContain(text(plain["key"]).slice(40));
    const shown = await shaman(["key", "list", "--org", slug]);
    expect(shown.out).toMatch(/Plain +active +all +never/);

    const rotated = await json(["key", "rotate", text(plain["id"]), "--org", slug, "--grace", "1h"]);
    expect(await isGood(orgId, plain["key"])).toBe(true);
    expect(await isGood(orgId, rotated["key"])).toBe(true);
    const again = await json(["key", "rotate", text(rotated["id"]), "--org", slug, "--now"]);
    expect(await isGood(orgId, rotated["key"])).toBe(false);

    const revoked = await shaman(["key", "revoke", text(again["prefix"]), "--org", slug]);
    expect(revoked).toMatchObject({ code: 0, err: "" });
    expect(await isGood(orgId, again["key"])).toBe(false);
    const unknown = await shaman(["key", "revoke", "key_unknown", "--org", slug]);
    expect(unknown).toMatchObject({ code: 1, out: "" });
  });

  test("made for people print the key once and say so", async () => {
    const { slug } = await givenOrg();
    const result = await shaman(["key", "create", "Shown", "--org", slug, "--all-agents"]);
    expect(result.out).toMatch(/\n\nsk_live_[0-9a-z]{26}_[0-9a-z]{59}\n\n.*never shown again/);
  });

  test("are announced to running processes the moment they are revoked", async () => {
    const { slug, orgId } = await givenOrg();
    const created = await json(["key", "create", "Told", "--org", slug, "--all-agents"]);
    const heard: string[] = [];
    const listener = createListener({
      url: database.roleUrls.public,
      name: "test",
      onError: () => undefined,
      onReconnect: () => undefined,
    });
    await listener.listen("shaman_cache", (payload) => heard.push(payload));
    await shaman(["key", "revoke", text(created["id"]), "--org", slug]);
    await vi.waitFor(() => expect(heard).toEqual([`key:${orgId}:${text(created["id"])}`]), { timeout: 10_000 });
    await listener.close();
  });
});

describe("agent validate", () => {
  const agent = (front: string): string => `---\n${front}\n---\nYou are an agent. {{prompt}}\n`;
  const givenFolder = async (files: Record<string, string>): Promise<string> => {
    const path = await mkdtemp(join(folder, "agents "));
    for (const [name, content] of Object.entries(files)) {
      await mkdir(join(path, name, ".."), { recursive: true });
      await writeFile(join(path, name), content);
    }
    return path;
  };
  // Neither a database nor a server may be needed.
  const bare = (args: readonly string[], cwd?: string) =>
    runCli(["agent", "validate", ...args], { cwd: cwd ?? folder });

  test("accepts a good folder, given by a path with spaces or relative to where one stands", async () => {
    const path = await givenFolder({ "Hello.md": agent("name: Hello\ndescription: Says hello\nexposed: true") });
    for (const result of [await bare([path]), await bare(["."], path)]) {
      expect(result).toMatchObject({ code: 0, err: "" });
      expect(result.out).toMatch(/Hello +yes +default +Says hello/);
    }
    const document = JSON.parse((await bare([path, "--json"])).out);
    expect(document).toMatchObject({ valid: true, problems: [], agents: [{ name: "Hello", exposed: true }] });
  });

  test("warns of agents that are called and not in the folder, and accepts it", async () => {
    const path = await givenFolder({ "Hello.md": agent("description: Says hello\ncalls: [Helo]") });
    const result = await bare([path]);
    expect(result).toMatchObject({ code: 0, err: "" });
    expect(result.out).toMatch(/\nHello\.md:3 warning: calls: there is no agent Helo .* Did you mean Hello\?\n/);
    expect(result.out).not.toContain("Everything is in order");
    const document = JSON.parse((await bare([path, "--json"])).out);
    const warning = { file: "Hello.md", line: 3, severity: "warning" };
    expect(document).toMatchObject({ valid: true, problems: [], warnings: [warning] });
  });

  test("refuses a bad folder with file, line and reason, and exit code 1", async () => {
    const path = await givenFolder({ "Bad.md": agent("name: Bad\ndescription: x\nexposed: maybe") });
    const result = await bare([path]);
    expect(result).toMatchObject({ code: 1, err: "" });
    expect(result.out).toMatch(/^Bad\.md:4 /);
    const document = JSON.parse((await bare([path, "--json"])).out);
    expect(document).toMatchObject({ valid: false, problems: [{ file: "Bad.md", line: 4 }], agents: [] });
    const missing = await bare([join(path, "nowhere")]);
    expect(missing).toMatchObject({ code: 1, out: "" });
    expect(missing.err).toContain("is not a folder");
  });
});

describe("audit verify", () => {
  test("says that the log is intact, and exits 1 when a row was changed", async () => {
    const { slug, orgId } = await givenOrg();
    await database
      .as("public")
      .withOrg(orgId, (tx) =>
        recordAudit(tx, { orgId, actor: "key:1", action: "agent:execute", resource: "/agents/A/", result: "ok" }),
      );
    const intact = await vi.waitFor(
      async () => {
        await sealAudit({ db: database.as("worker") });
        const report = await json(["audit", "verify", "--org", slug]);
        expect(report).toMatchObject({ ok: true, organizations: [{ slug, sealed: 2, unsealed: 0 }] });
        return shaman(["audit", "verify", "--org", slug]);
      },
      { timeout: 60_000 },
    );
    expect(intact.out).toMatch(/intact, 2 rows sealed\n +head 2:[0-9a-f]{64}\n/);
    const head = /head (\S+)/.exec(intact.out)?.[1] ?? "";
    expect((await shaman(["audit", "verify", "--org", slug, "--head", head])).code).toBe(0);

    await database.inspect("UPDATE audit_log SET actor = 'key:2' WHERE org_id = $1 AND actor = 'key:1'", [orgId]);
    const broken = await shaman(["audit", "verify", "--org", slug]);
    expect(broken.code).toBe(1);
    expect(broken.out).toContain("NOT INTACT");
    expect(broken.out).toContain("changed: ");
    expect((await shaman(["audit", "verify", "--all"])).code).toBe(1);
  });
});

describe("doctor", () => {
  test("finds nothing failed in an installation that is in order", async () => {
    const result = await json(["doctor"]);
    const checks = z.array(z.object({ name: z.string(), state: z.string() })).parse(result["checks"]);
    expect(checks.filter((check) => check.state === "failed")).toEqual([]);
    expect(checks.map((check) => check.name)).toEqual(
      expect.arrayContaining([
        "Node",
        "Git",
        "Database",
        "Migrations",
        "Secrets",
        "Runs",
        "Audit seal",
        "Repositories",
      ]),
    );
  });

  test("says what is wrong, what to do, and exits 1", async () => {
    const env = { DATABASE_URL: "postgres://shaman_web@127.0.0.1:1/none" };
    const result = await shaman(["doctor"], { env });
    expect(result.code).toBe(1);
    expect(result.out).toMatch(/FAILED +Database +PostgreSQL cannot be reached/);
  });

  test("finds a Redis that does not answer", async () => {
    const result = await shaman(["doctor"], { env: { REDIS_URL: "redis://127.0.0.1:1" } });
    expect(result.code).toBe(1);
    expect(result.out).toMatch(/FAILED +Redis/);
  });
});
