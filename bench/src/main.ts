import { mkdir, writeFile } from "node:fs/promises";
import { runBackend, type BackendFigures } from "./backend-run.ts";
import { readFlags, USAGE, type Flags } from "./flags.ts";
import { startLoadGenerator } from "./load-generator.ts";
import { readMachine } from "./machine.ts";
import { fullPlan, quickPlan } from "./plan.ts";
import { ratiosOf, type Ratios } from "./ratios.ts";
import { startBenchPostgres } from "./stores.ts";
import { formatBackend } from "./table.ts";
import { createSeeder } from "./targets/shaman-seed.ts";

const log = (line: string): void => console.log(`${new Date().toISOString().slice(11, 19)} ${line}`);

const run = async (flags: Flags): Promise<void> => {
  const startedAt = new Date();
  const plan = flags.quick ? quickPlan : fullPlan;
  const postgres = await startBenchPostgres();
  const generator = startLoadGenerator();
  const seeder = await createSeeder({ postgres });
  // The child processes die with this one; PostgreSQL runs on by itself and must be told.
  const interrupt = (): void => void postgres.stop().finally(() => process.exit(130));
  process.once("SIGINT", interrupt).once("SIGTERM", interrupt);
  const raw: Record<string, BackendFigures> = {};
  const ratios: Record<string, Ratios> = {};
  try {
    for (const backend of flags.backends) {
      const { parts, targets } = flags;
      const figures = await runBackend({ generator, postgres, seeder, log }, { backend, plan, parts, targets });
      raw[backend] = figures;
      ratios[backend] = ratiosOf(figures);
      console.log(formatBackend(backend, figures, ratiosOf(figures)));
    }
  } finally {
    generator.stop();
    await seeder.close();
    await postgres.stop();
  }
  const seconds = Math.round((Date.now() - startedAt.getTime()) / 1_000);
  const report = { ratios, startedAt, seconds, machine: readMachine(postgres.version), plan, raw };
  const folder = new URL("../results/", import.meta.url);
  const file = new URL(flags.complete ? "latest.json" : "partial.json", folder);
  await mkdir(folder, { recursive: true });
  await writeFile(file, `${JSON.stringify(report, null, 2)}\n`);
  console.log(`\n${seconds} s; all figures are in ${file.pathname}`);
};

try {
  const flags = readFlags(process.argv.slice(2));
  if (flags.help) console.log(USAGE);
  else await run(flags);
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
