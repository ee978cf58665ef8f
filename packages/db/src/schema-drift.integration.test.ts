import { readFile } from "node:fs/promises";
import { testDatabase, type TestDatabase } from "@shaman/testkit";
import { afterEach, beforeEach, expect, it } from "vitest";
import { withSchemaEngine } from "./schema-engine.ts";

const SCHEMA_FILE = new URL("../../../prisma/schema.prisma", import.meta.url);

let database: TestDatabase;
beforeEach(async () => {
  database = await testDatabase();
  const script = await createScript();
  await database.inspect(`BEGIN; CREATE SCHEMA drawn; SET LOCAL search_path TO drawn; ${script} COMMIT`);
});
afterEach(() => database.close());

/** The statements that would make an empty database what prisma/schema.prisma says. */
const createScript = async (): Promise<string> => {
  const files = [{ path: "schema.prisma", content: await readFile(SCHEMA_FILE, "utf8") }];
  const { stdout } = await withSchemaEngine(database.ownerUrl, (engine) =>
    engine.diff({
      from: { tag: "empty" },
      to: { tag: "schemaDatamodel", files },
      script: true,
      exitCode: null,
      filters: { externalTables: [], externalEnums: [] },
    }),
  );
  return stdout ?? "";
};

/**
 * One line for each column, key and index of a schema. Left out is what Prisma has no words for: policies, grants,
 * checks, indexes with a condition, UNLOGGED, and NOT NULL of a list. Equal for us are the spellings of now, of an empty
 * list, and the two ways to number rows.
 */
const describeSchema = async (schema: "public" | "drawn"): Promise<string[]> => {
  const rows = await database.inspect<{ line: string }>(
    `WITH ours AS (
       SELECT oid, relname FROM pg_class
       WHERE relnamespace = $1::text::regnamespace AND relkind IN ('r', 'p') AND relname <> '_prisma_migrations'
     ), lines AS (
       SELECT concat_ws(' ', 'column', t.relname || '.' || a.attname, format_type(a.atttypid, a.atttypmod),
         CASE WHEN a.attnotnull AND a.attndims = 0 THEN 'NOT NULL' END,
         CASE WHEN a.attidentity <> '' OR pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%' THEN 'numbered'
           ELSE 'DEFAULT ' || CASE pg_get_expr(d.adbin, d.adrelid)
             WHEN 'CURRENT_TIMESTAMP' THEN 'now()'
             WHEN 'ARRAY[]::text[]' THEN '''{}''::text[]'
             ELSE pg_get_expr(d.adbin, d.adrelid) END
         END) AS line
       FROM ours t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
       LEFT JOIN pg_attrdef d ON d.adrelid = t.oid AND d.adnum = a.attnum
       UNION ALL
       SELECT concat_ws(' ', 'key', t.relname, c.conname, pg_get_constraintdef(c.oid))
       FROM ours t JOIN pg_constraint c ON c.conrelid = t.oid AND c.contype IN ('p', 'f')
       UNION ALL
       SELECT pg_get_indexdef(i.indexrelid) FROM ours t JOIN pg_index i ON i.indrelid = t.oid AND i.indpred IS NULL
     )
     SELECT replace(line, $1 || '.', '') AS line FROM lines ORDER BY 1`,
    [schema],
  );
  return rows.map(({ line }) => line);
};

it("has in prisma/schema.prisma every column, key and index that the migrations make, and no other", async () => {
  const migrated = await describeSchema("public");
  expect(migrated.length).toBeGreaterThan(250);
  expect(await describeSchema("drawn")).toEqual(migrated);
});

it("notices a column, a key and an index that differ", async () => {
  const before = await describeSchema("drawn");
  await database.inspect(`
    ALTER TABLE drawn.task ALTER COLUMN agent DROP NOT NULL;
    ALTER TABLE drawn.task_command DROP CONSTRAINT task_command_org_id_run_id_fkey;
    DROP INDEX drawn.task_context`);
  const after = new Set(await describeSchema("drawn"));
  expect(before.filter((line) => !after.has(line))).toEqual([
    "CREATE INDEX task_context ON task USING btree (org_id, principal, context_id, created_at)",
    "column task.agent text NOT NULL",
    "key task_command task_command_org_id_run_id_fkey FOREIGN KEY (org_id, run_id) REFERENCES run(org_id, id) ON DELETE CASCADE",
  ]);
});
