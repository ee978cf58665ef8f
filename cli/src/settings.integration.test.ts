import { testDatabase, type TestDatabase } from "@shaman/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { runCli } from "./run-cli.scene.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await testDatabase();
});
afterAll(() => database.close());

const shaman = (args: readonly string[]) => runCli(args, { env: { DATABASE_URL: database.roleUrls.web.reveal() } });

const json = async (args: readonly string[]): Promise<Record<string, unknown>> => {
  const result = await shaman([...args, "--json"]);
  expect(result.err).toBe("");
  return z.record(z.string(), z.unknown()).parse(JSON.parse(result.out));
};

let made = 0;
const givenOrg = async () => {
  made += 1;
  const slug = `set-${made}`;
  const { id } = await json(["org", "create", slug, "A company"]);
  return { slug, orgId: String(id) };
};

describe("an organization's settings", () => {
  const settingsOf = async (slug: string) => json(["org", "settings", "--org", slug]);

  test("are changed one by one, marked where they differ, taken back to the default, and audited", async () => {
    const { slug, orgId } = await givenOrg();
    const set = (...args: string[]) => shaman(["org", "set", ...args, "--org", slug]);
    const changed = await set("run.maxCostUsd", "2");
    expect(changed).toMatchObject({ code: 0, err: "" });
    expect(changed.out).toContain("run.maxCostUsd is 2 (default 1).");
    await set("spend.monthlyUsd", "500");
    await set("prices", '{"openai/gpt-x":{"input":1,"cached":0.1,"output":4}}');
    await set("prices", '{"openai/gpt-x":{"output":5},"other/y.z":{"input":1,"cached":1,"output":1}}');
    await set("prices.other/y.z", "default");
    const overrides = {
      run: { maxCostUsd: 2 },
      spend: { monthlyUsd: 500 },
      prices: { "openai/gpt-x": { input: 1, cached: 0.1, output: 5 } },
    };
    expect(await settingsOf(slug)).toMatchObject({ overrides, settings: { ...overrides, retry: { maxAttempts: 3 } } });
    const { out } = await shaman(["org", "settings", "--org", slug]);
    expect(out).toMatch(/^SETTING +VALUE +FROM +MAY BE\n/);
    expect(out).toMatch(/\nrun\.maxCostUsd +2 +set here \(default 1\) +0 to 10000\n/);
    expect(out).toMatch(/\nrun\.maxSteps +30 +default +whole, 1 to 1000\n/);
    expect(out).toMatch(/\nprices\.openai\/gpt-x +\{"input":1,"cached":0\.1,"output":5\} +set here/);

    expect((await set("run.maxCostUsd", "default")).out).toContain("run.maxCostUsd is 1 (the default).");
    expect(await settingsOf(slug)).toMatchObject({ settings: { run: { maxCostUsd: 1 } } });
    const rows = await database.inspect(
      "SELECT details FROM audit_log WHERE org_id = $1 AND action = 'organization:update' ORDER BY id",
      [orgId],
    );
    expect(rows).toHaveLength(6);
    expect(rows[0]).toEqual({ details: { patch: { run: { maxCostUsd: 2 } } } });
  });

  test("stay as they are where a name or a value is wrong, and the error says what would be right", async () => {
    const { slug } = await givenOrg();
    for (const [setting, value, message] of [
      ["run.maxStep", "5", 'There is no setting "run.maxStep". Did you mean run.maxSteps?'],
      ["run.maxSteps", "0", "shaman: run.maxSteps: must be a whole number from 1 to 1000.\n"],
      ["run.maxCostUsd", "-1", "shaman: run.maxCostUsd: must be a number from 0 to 10000.\n"],
      ["spend.monthlyUsd", "much", "shaman: spend.monthlyUsd: must be a number from 0 to 10000000.\n"],
      ["defaultModel", "nope", "defaultModel: must be provider/model, or a name that modelAliases has."],
      ["prices", "5", "prices: must be a JSON object such as"],
      ["prices.__proto__", '{"input":1,"cached":1,"output":1}', "prices.__proto__: is no name that may be used."],
      ["prices", '{"x/y":{"__proto__":1}}', "prices.x/y.__proto__: is no name that may be used."],
      ["prices", '{"openai/x":{"input":1}}', "prices.openai/x.output: must be a number"],
    ] as const) {
      const refused = await shaman(["org", "set", setting, value, "--org", slug]);
      expect(refused).toMatchObject({ code: 1, out: "" });
      expect(refused.err).toContain(message);
    }
    expect((await settingsOf(slug))["overrides"]).toEqual({});
  });

  test("that are stored and not valid are shown as the default that holds, with what is wrong, and can be set right", async () => {
    const { slug, orgId } = await givenOrg();
    const set = (...args: string[]) => shaman(["org", "set", ...args, "--org", slug]);
    const stored = { run: { maxSteps: 5_000, maxDepth: 2 }, prices: { "a/b": { input: 1 } } };
    await database.inspect("UPDATE organization SET settings = $2 WHERE id = $1", [orgId, JSON.stringify(stored)]);
    const { out } = await shaman(["org", "settings", "--org", slug]);
    expect(out).toMatch(/\nrun\.maxSteps +30 +default, because the stored run\.maxSteps is not valid +whole/);
    expect(out).toMatch(/\nrun\.maxDepth +5 +default, because the stored run\.maxSteps is not valid +whole/);
    expect(out).toMatch(/\nprices +none +default, because the stored prices\.a\/b\.output is not valid +USD/);
    const depth = await set("run.maxDepth", "3");
    expect(depth.out).toContain("run.maxDepth is 5 (the default, because the stored run.maxSteps is not valid).\n");
    const price = await set("prices.c/d", '{"input":1,"cached":1,"output":1}');
    expect(price.out).toContain("prices is none (the default, because the stored prices.a/b.output is not valid).\n");
    await set("run.maxSteps", "9");
    expect(await settingsOf(slug)).toMatchObject({ settings: { run: { maxSteps: 9, maxDepth: 3 } } });
  });
});
