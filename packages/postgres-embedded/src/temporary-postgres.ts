import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findHome } from "./home.ts";
import { startPostgres, type RunningPostgres } from "./start-postgres.ts";

/**
 * Starts a PostgreSQL on any free port that leaves nothing behind: its data go when it is stopped, and it ends with this
 * process even when nobody stops it (but for a `kill -9`). For tests and measurements.
 */
export const startTemporaryPostgres = async (
  options: { readonly settings?: Readonly<Record<string, string>> } = {},
): Promise<RunningPostgres> => {
  const folder = mkdtempSync(join(tmpdir(), "shaman-postgres-"));
  // Started by root it runs as another user, who must be able to enter.
  chmodSync(folder, 0o711);
  const dir = join(folder, "postgres");
  const remove = (): void => {
    const home = findHome(dir)?.folder;
    if (home !== undefined) rmSync(home, { recursive: true, force: true });
    rmSync(folder, { recursive: true, force: true });
  };
  const running = await startPostgres({ dir, port: 0, log: () => undefined, ...options }).catch((error: unknown) => {
    remove();
    throw error;
  });
  const onExit = (): void => {
    try {
      process.kill(running.pid, "SIGQUIT");
    } catch {
      // It ended by itself.
    }
    remove();
  };
  process.once("exit", onExit);
  const stop = async (): Promise<void> => {
    process.off("exit", onExit);
    await running.stop();
    remove();
  };
  return { ...running, stop };
};
