import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import { expect, test } from "vitest";
import { isProcessAlive } from "./process-table.ts";
import { startTemporaryPostgres } from "./temporary-postgres.ts";

const dataDirectory = async (url: string): Promise<string> => {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  const { rows } = await client.query<{ data: string }>("SELECT current_setting('data_directory') AS data");
  await client.end();
  return rows[0]?.data ?? "";
};

test("a temporary database is gone after its stop, with all its files", async () => {
  const running = await startTemporaryPostgres();
  const data = await dataDirectory(running.url);
  expect(existsSync(data)).toBe(true);
  await running.stop();
  expect(existsSync(data)).toBe(false);
  expect(isProcessAlive(running.pid)).toBe(false);
});

test("a temporary database ends with the process that started it, stopped or not", async () => {
  const program = `
    const { startTemporaryPostgres } = await import(${JSON.stringify(join(import.meta.dirname, "index.ts"))});
    const running = await startTemporaryPostgres();
    console.log(running.pid);
    process.exit(3);`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", program], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [output] = await once(child.stdout, "data");
  const pid = Number(String(output));
  expect(pid).toBeGreaterThan(1);
  await expect.poll(() => isProcessAlive(pid), { timeout: 30_000 }).toBe(false);
});
