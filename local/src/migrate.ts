import { dirname, join } from "node:path";
import { migrate, PROCESS_ROLES } from "@shaman/db";
import { toAppError, userError } from "@shaman/kernel";
import { migrateJobQueue } from "@shaman/queue";
import { readLocalConfig } from "./config.ts";
import { ensureLocalKeys } from "./local-keys.ts";

const root = dirname(dirname(import.meta.dirname));

/**
 * Brings the database of DATABASE_URL up to date without starting anything, and prints the URL that each process gets as
 * its own DATABASE_URL. Their passwords come from `.shaman/keys.json`, so that a second run from this checkout changes
 * nothing.
 */
const main = async (): Promise<number> => {
  const { config } = readLocalConfig();
  if (!config.ok) {
    for (const problem of config.error) console.error(problem);
    return 1;
  }
  const { databaseUrl } = config.value;
  if (databaseUrl === undefined) {
    const message =
      "Set DATABASE_URL to a role that owns the database and may create roles; npm start migrates its own.";
    throw userError("no_database", message);
  }
  const { roleSecret } = ensureLocalKeys(join(root, ".shaman"));
  const { applied, roleUrls } = await migrate({ databaseUrl, roleSecret });
  await migrateJobQueue({ databaseUrl });
  console.error(applied.length > 0 ? `Applied ${applied.join(", ")}.` : "The database was up to date.");
  for (const role of PROCESS_ROLES) console.log(`${role.padEnd(8)} ${roleUrls[role].reveal()}`);
  return 0;
};

process.exitCode = await main().catch((error: unknown) => {
  console.error(toAppError(error).message);
  return 1;
});
// The channel to the script that started us would keep this process alive.
if (process.connected) process.disconnect();
