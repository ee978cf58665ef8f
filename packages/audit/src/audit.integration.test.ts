import { testDatabase, type TestDatabase } from "@shaman/testkit";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { recordAudit, type AuditEntry } from "./audit-entry.ts";
import { listAudit } from "./list-audit.ts";
import { sealAudit } from "./seal-audit.ts";
import { verifyAudit, type AuditReport } from "./verify-audit.ts";

let database: TestDatabase;

beforeAll(async () => {
  database = await testDatabase();
});
afterAll(() => database.close());

const entry = (orgId: string, change: Partial<AuditEntry> = {}): AuditEntry => ({
  orgId,
  actor: "key:key_1",
  action: "agent:execute",
  resource: "/agents/A/",
  result: "ok",
  details: { b: 1, a: ["ü", null] },
  ...change,
});

const write = (orgId: string, count = 1): Promise<unknown> =>
  database.as("public").withOrg(orgId, async (tx) => {
    for (let n = 0; n < count; n += 1) await recordAudit(tx, entry(orgId, { durationMs: n }));
  });

/** The snapshot horizon waits for transactions of other tests of this cluster too, so sealing all may take a few rounds. */
const sealAll = (orgId: string): Promise<AuditReport> =>
  vi.waitFor(
    async () => {
      await sealAudit({ db: database.as("worker") }, { batchRows: 7 });
      const report = await verify(orgId);
      expect(report.unsealed).toBe(0);
      return report;
    },
    { timeout: 30_000, interval: 20 },
  );

const verify = (orgId: string, expected?: { position: number; hash: string }): Promise<AuditReport> =>
  verifyAudit({ db: database.as("web") }, { orgId, batchRows: 5, ...(expected && { expected }) });

/** The owner of the tables, to whom forced security applies unless it is a superuser: what an intruder could become. */
const tamper = (text: string, values: readonly unknown[]): Promise<unknown> => database.inspect(text, values);

const given = async (rows: number) => {
  const { orgId } = await database.givenOrg();
  await write(orgId, rows);
  return { orgId, report: await sealAll(orgId) };
};

const kinds = (report: AuditReport): string[] => report.problems.map((problem) => problem.kind);

describe("the audit log", () => {
  test("an act and its row exist together or not at all", async () => {
    const { orgId } = await database.givenOrg();
    const act = database.as("public").withOrg(orgId, async (tx) => {
      await recordAudit(tx, entry(orgId));
      throw new Error("the act failed");
    });
    await expect(act).rejects.toThrow("the act failed");
    expect(await database.inspect("SELECT 1 FROM audit_log WHERE org_id = $1", [orgId])).toEqual([]);
  });

  test.each(["public", "internal", "worker", "web"] as const)(
    "the %s role can add rows, but change, delete, renumber or date none",
    async (role) => {
      const { orgId } = await database.givenOrg();
      const db = database.as(role);
      await db.withOrg(orgId, (tx) => recordAudit(tx, entry(orgId)));
      for (const text of [
        "UPDATE audit_log SET actor = 'x'",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
        "DELETE FROM audit_seal",
        "UPDATE audit_seal SET hash = ''",
        `INSERT INTO audit_log (org_id, actor, action, resource, result, xid) VALUES ('${orgId}', 'a', 'b', 'c', 'ok', '1')`,
        `INSERT INTO audit_log (org_id, actor, action, resource, result, at) VALUES ('${orgId}', 'a', 'b', 'c', 'ok', now())`,
      ]) {
        await expect(db.withOrg(orgId, (tx) => tx.query({ text }))).rejects.toThrow(/permission denied/);
      }
    },
  );

  test("no organization can write into another one's log", async () => {
    const [mine, theirs] = [await database.givenOrg(), await database.givenOrg()];
    const write = database.as("public").withOrg(mine.orgId, (tx) => recordAudit(tx, entry(theirs.orgId)));
    await expect(write).rejects.toThrow(/row-level security/);
  });

  test("sealed rows form one gapless chain per organization that verifies from any batch size", async () => {
    const first = await given(23);
    const second = await given(3);
    expect(first.report).toMatchObject({ ok: true, sealed: 23, unsealed: 0, head: { position: 23 } });
    expect(second.report).toMatchObject({ ok: true, sealed: 3, head: { position: 3 } });
    await write(first.orgId, 4);
    const grown = await sealAll(first.orgId);
    expect(grown).toMatchObject({ ok: true, sealed: 27 });
    expect(await verify(first.orgId, first.report.head ?? undefined)).toMatchObject({ ok: true });
  });

  test("sealing twice changes nothing, and many sealers at once seal each row once", async () => {
    const { orgId } = await database.givenOrg();
    await write(orgId, 40);
    await Promise.all(Array.from({ length: 6 }, () => sealAudit({ db: database.as("worker") }, { batchRows: 3 })));
    const sealed = await sealAll(orgId);
    await sealAudit({ db: database.as("worker") });
    expect(await verify(orgId)).toEqual(sealed);
    expect(sealed).toMatchObject({ ok: true, sealed: 40 });
  });

  test("a row whose transaction is still open is not overtaken, and is sealed after it commits", async () => {
    const { orgId } = await database.givenOrg();
    const opened = Promise.withResolvers<undefined>();
    const release = Promise.withResolvers<undefined>();
    const slow = database.as("public").withOrg(orgId, async (tx) => {
      await recordAudit(tx, entry(orgId, { actor: "slow" }));
      opened.resolve(undefined);
      await release.promise;
    });
    await opened.promise;
    await write(orgId, 2);
    await sealAudit({ db: database.as("worker") });
    expect(await verify(orgId)).toMatchObject({ ok: true, sealed: 0, unsealed: 2 });
    release.resolve(undefined);
    await slow;
    expect(await sealAll(orgId)).toMatchObject({ ok: true, sealed: 3 });
  });

  test("goes on sealing in a restored database whose transaction numbers begin again", async () => {
    const { orgId } = await given(2);
    const far = "9000000000000000000";
    await tamper("UPDATE audit_seal SET xid = $2::text::xid8 WHERE org_id = $1", [orgId, far]);
    await write(orgId, 5);
    expect(await sealAll(orgId)).toMatchObject({ ok: true, sealed: 7 });
    await write(orgId, 1);
    expect(await sealAll(orgId)).toMatchObject({ ok: true, sealed: 8 });
  });
});

describe("verification finds", () => {
  test.each(["actor", "result", "at", "details", "ip"])("a row whose %s was changed", async (column) => {
    const { orgId } = await given(5);
    const value = {
      actor: "'x'",
      result: "'denied'",
      at: "at + interval '1 microsecond'",
      details: `'{"b":2}'`,
      ip: "'::1'",
    }[column];
    await tamper(
      `UPDATE audit_log SET ${column} = ${value} WHERE org_id = $1 AND id = (SELECT audit_id FROM audit_seal WHERE org_id = $1 AND position = 3)`,
      [orgId],
    );
    const report = await verify(orgId);
    expect(report).toMatchObject({ ok: false, problemCount: 1 });
    expect(report.problems[0]).toMatchObject({ kind: "changed", position: 3 });
  });

  test("a row that was removed", async () => {
    const { orgId } = await given(5);
    await tamper(
      "DELETE FROM audit_log WHERE org_id = $1 AND id = (SELECT audit_id FROM audit_seal WHERE org_id = $1 AND position = 5)",
      [orgId],
    );
    expect(kinds(await verify(orgId))).toEqual(["removed"]);
  });

  test("a row that was removed together with its seal", async () => {
    const { orgId } = await given(5);
    await tamper(
      "WITH seal AS (DELETE FROM audit_seal WHERE org_id = $1 AND position = 2 RETURNING audit_id) DELETE FROM audit_log WHERE id IN (SELECT audit_id FROM seal)",
      [orgId],
    );
    expect(kinds(await verify(orgId))).toEqual(["seal_missing"]);
  });

  test("a row that was put in below what is sealed", async () => {
    const { orgId } = await given(5);
    await tamper(
      `INSERT INTO audit_log (org_id, xid, actor, action, resource, result)
        VALUES ($1, '3', 'forged', 'agent:execute', '/agents/A/', 'ok')`,
      [orgId],
    );
    expect(kinds(await verify(orgId))).toEqual(["inserted"]);
  });

  test("a chain that was cut short or rewritten, when given a head from before", async () => {
    const { orgId, report } = await given(6);
    const head = report.head ?? { position: 0, hash: "" };
    expect(await verify(orgId, head)).toMatchObject({ ok: true });
    expect(kinds(await verify(orgId, { ...head, hash: "0".repeat(64) }))).toEqual(["rewritten"]);
    await tamper("DELETE FROM audit_seal WHERE org_id = $1 AND position > 4", [orgId]);
    await tamper(
      "DELETE FROM audit_log a WHERE org_id = $1 AND NOT EXISTS (SELECT FROM audit_seal s WHERE s.audit_id = a.id)",
      [orgId],
    );
    expect(await verify(orgId)).toMatchObject({ ok: true, sealed: 4 });
    expect(kinds(await verify(orgId, head))).toEqual(["shortened"]);
  });

  test("every one of many problems, and lists the first hundred", async () => {
    const { orgId } = await given(130);
    await tamper("UPDATE audit_log SET tool = 'x' WHERE org_id = $1", [orgId]);
    const report = await verify(orgId);
    expect(report.problemCount).toBe(130);
    expect(report.problems).toHaveLength(100);
  });
});

describe("listing the audit log", () => {
  const reader = (orgId: string) => ({ orgId, can: () => true });

  test("pages through every row once, the newest first, also where many share a moment", async () => {
    const { orgId } = await database.givenOrg();
    await write(orgId, 12);
    await write(orgId, 3);
    const ids: number[] = [];
    let after: string | undefined;
    for (;;) {
      const page = await listAudit({ db: database.as("web") }, reader(orgId), { first: 4, ...(after && { after }) });
      if (!page.ok) throw page.error;
      ids.push(...page.value.rows.map((row) => row.id));
      if (page.value.endCursor === null) break;
      after = page.value.endCursor;
    }
    expect(ids).toEqual(ids.toSorted((a, b) => b - a));
    expect(new Set(ids).size).toBe(15);
  });

  test("filters by actor, action, path and run", async () => {
    const { orgId } = await database.givenOrg();
    await database.as("public").withOrg(orgId, async (tx) => {
      await recordAudit(tx, entry(orgId, { actor: "user:1", action: "apiKey:create", resource: "/apiKeys/a/" }));
      await recordAudit(tx, entry(orgId, { runId: "run_9" }));
    });
    const list = async (filter: object) => {
      const page = await listAudit({ db: database.as("web") }, reader(orgId), filter);
      return page.ok ? page.value.rows.length : page.error.code;
    };
    expect(await list({})).toBe(2);
    expect(await list({ actor: "user:1" })).toBe(1);
    expect(await list({ action: "apiKey:create" })).toBe(1);
    expect(await list({ resource: "/apiKeys/" })).toBe(1);
    expect(await list({ runId: "run_9" })).toBe(1);
    expect(await list({ until: new Date(0) })).toBe(0);
    expect(await list({ after: "nonsense" })).toBe("invalid_cursor");
    expect(await list({ first: 0 })).toBe("invalid_input");
  });

  test("is refused without audit:read before anything is read", async () => {
    const nobody = { orgId: "org_of_nobody", can: () => false };
    const page = await listAudit({ db: database.as("web") }, nobody, {});
    expect(page.ok ? "ok" : page.error.code).toBe("forbidden");
  });
});
