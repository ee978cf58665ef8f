import { execFileSync, spawnSync } from "node:child_process";
import { statSync } from "node:fs";
import { AppError } from "@shaman/kernel";

/** The operating system user PostgreSQL runs as. PostgreSQL refuses to run as root. */
export type Account = { readonly uid: number; readonly gid: number };

const ROOT_UID = 0;
const NAMES = ["postgres", "nobody"] as const;

const idOf = (flag: "-u" | "-g", name: string): number | undefined => {
  const result = spawnSync("id", [flag, name], { encoding: "utf8" });
  return result.status === 0 ? Number(result.stdout.trim()) : undefined;
};

const findAccount = (name: string): Account | undefined => {
  const uid = idOf("-u", name);
  const gid = idOf("-g", name);
  return uid === undefined || gid === undefined ? undefined : { uid, gid };
};

const createAccount = (): void => {
  try {
    const options = ["--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", "postgres"];
    execFileSync("useradd", options, { stdio: "ignore" });
  } catch {
    // Another start may have created it at the same moment, and minimal systems have no useradd: the look-up after
    // this decides, and falls back to `nobody`.
  }
};

/** Whether this process is root, which PostgreSQL must not be. */
const isRoot = (): boolean => process.getuid?.() === ROOT_UID;

/**
 * The account to start PostgreSQL with when this process is root, else `undefined`: the owner of existing data, or the
 * user `postgres` (created when it is missing), or `nobody`.
 */
export const chooseAccount = (existingData: string | undefined): Account | undefined => {
  if (!isRoot()) return undefined;
  if (existingData !== undefined) {
    const { uid, gid } = statSync(existingData);
    if (uid !== ROOT_UID) return { uid, gid };
  }
  if (findAccount("postgres") === undefined) createAccount();
  for (const name of NAMES) {
    const account = findAccount(name);
    if (account !== undefined) return account;
  }
  throw new AppError({
    code: "postgres_account_missing",
    kind: "operational",
    message:
      "PostgreSQL does not run as root and no user `postgres` could be created: " +
      "start as an ordinary user, or set DATABASE_URL.",
  });
};

/** Whether the account may enter the folder; asked of the system itself, so that every kind of permission counts. */
export const mayEnter = (account: Account | undefined, folder: string): boolean =>
  account === undefined ||
  spawnSync("/bin/sh", ["-c", 'cd -- "$1"', "sh", folder], { ...account, cwd: "/", stdio: "ignore" }).status === 0;

/** Whether the account can run this program with all libraries it needs. */
export const mayRun = (account: Account | undefined, program: string): boolean =>
  account === undefined || spawnSync(program, ["--version"], { ...account, cwd: "/", stdio: "ignore" }).status === 0;
