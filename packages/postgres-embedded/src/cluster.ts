import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { AppError } from "@shaman/kernel";
import type { Binaries } from "./binaries.ts";
import type { Home } from "./home.ts";

/** The user that owns the built-in databases. */
export const OWNER = "postgres";

const PASSWORD_BYTES = 24;
const LOG_MAX_BYTES = 10_000_000;
const LOG_TAIL_CHARS = 2_000;

// The message language and time zone of the machine must not change what we read or store.
const ENVIRONMENT = { LC_ALL: "C", TZ: "UTC", PATH: "/usr/local/bin:/usr/bin:/bin" };

const giveTo = (home: Home, path: string): void => {
  if (home.account !== undefined) chownSync(path, home.account.uid, home.account.gid);
};

const ioError = (message: string): AppError => new AppError({ code: "postgres_failed", kind: "operational", message });

/** Makes the data folder when it is not there yet. A start that is killed half-way leaves nothing that counts. */
export const ensureCluster = (home: Home, binaries: Binaries): void => {
  if (existsSync(home.data)) return;
  const fresh = join(home.folder, "data-in-the-making");
  const passwordForInitdb = join(home.folder, "password-for-initdb");
  rmSync(fresh, { recursive: true, force: true });
  mkdirSync(fresh, { mode: 0o700 });
  giveTo(home, fresh);
  const password = randomBytes(PASSWORD_BYTES).toString("base64url");
  for (const file of [home.passwordFile, passwordForInitdb]) {
    rmSync(file, { force: true });
    writeFileSync(file, password, { mode: 0o600 });
  }
  giveTo(home, passwordForInitdb);
  const options = [`--pgdata=${fresh}`, `--username=${OWNER}`, `--pwfile=${passwordForInitdb}`, "--auth=scram-sha-256"];
  const locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"];
  const result = spawnSync(binaries.initdb, [...options, ...locale, "--no-instructions"], {
    ...home.account,
    cwd: home.folder,
    encoding: "utf8",
    env: ENVIRONMENT,
  });
  rmSync(passwordForInitdb, { force: true });
  if (result.status !== 0) {
    rmSync(fresh, { recursive: true, force: true });
    const reason = result.error?.message ?? result.stderr.trim();
    throw ioError(`The built-in PostgreSQL could not make its data folder in ${home.folder}: ${reason}`);
  }
  renameSync(fresh, home.data);
};

/** The password of the owner; written once, when the cluster was made. */
export const readPassword = (home: Home): string => {
  if (existsSync(home.passwordFile)) return readFileSync(home.passwordFile, "utf8").trim();
  throw ioError(`${home.passwordFile} is missing, so nobody can enter the database: wipe it with \`npm run reset\`.`);
};

export type ServerProcess = {
  readonly child: ChildProcess;
  /** What the server wrote to its log since this start. */
  readonly readLog: () => string;
};

/** Starts the server in a process group of its own, so that a Ctrl-C in the terminal does not reach it. */
export const spawnServer = (
  home: Home,
  binaries: Binaries,
  options: { readonly port: number; readonly settings: Readonly<Record<string, string>> },
): ServerProcess => {
  if (existsSync(home.logFile) && statSync(home.logFile).size > LOG_MAX_BYTES) rmSync(home.logFile);
  const log = openSync(home.logFile, "a", 0o600);
  chmodSync(home.logFile, 0o600);
  const logStart = statSync(home.logFile).size;
  const settings = Object.entries(options.settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  const child = spawn(binaries.postgres, ["-D", home.data, "-p", String(options.port), ...settings], {
    ...home.account,
    cwd: home.folder,
    detached: true,
    env: ENVIRONMENT,
    stdio: ["ignore", log, log],
  });
  closeSync(log);
  child.unref();
  const readLog = (): string => readFileSync(home.logFile).subarray(logStart).toString("utf8").slice(-LOG_TAIL_CHARS);
  return { child, readLog };
};
