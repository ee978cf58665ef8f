import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { AppError } from "@shaman/kernel";
import { chooseAccount, mayEnter, mayRun, type Account } from "./account.ts";
import { binariesBelow, type Binaries } from "./binaries.ts";

/** Where one PostgreSQL lives: its data, its password and its log, and who it runs as. */
export type Home = {
  readonly folder: string;
  readonly data: string;
  readonly passwordFile: string;
  readonly logFile: string;
  readonly account: Account | undefined;
};

/** Started by root below a folder that only root may enter, PostgreSQL's files lie here; `outside` files name the places. */
const OUTSIDE = "/var/lib/shaman";

const outsideFolder = (path: string): string =>
  join(OUTSIDE, createHash("sha256").update(path).digest("hex").slice(0, 16));

const makeFolder = (folder: string): void => {
  mkdirSync(folder, { recursive: true });
};

/** A folder that every account may enter, whatever the umask. */
const makeOpenFolder = (folder: string): void => {
  for (const each of [dirname(folder), folder]) {
    makeFolder(each);
    chmodSync(each, 0o755);
  }
};

const homeIn = (folder: string, account: Account | undefined): Home => ({
  folder,
  data: join(folder, "data"),
  passwordFile: join(folder, "password"),
  logFile: join(folder, "postgres.log"),
  account,
});

const namedOutside = (dir: string): readonly string[] => {
  const file = join(dir, "outside");
  return existsSync(file) ? readFileSync(file, "utf8").split("\n") : [];
};

const nameOutside = (dir: string, folder: string): void => {
  const known = namedOutside(dir).filter((line) => line.startsWith(OUTSIDE));
  if (!known.includes(folder)) writeFileSync(join(dir, "outside"), `${[...known, folder].join("\n")}\n`);
};

/** Finds where the data of `dir` lies if there is any; makes nothing. */
export const findHome = (dir: string): Home | undefined => {
  const outside = outsideFolder(dir);
  const folder = namedOutside(dir).includes(outside) ? outside : dir;
  const data = join(folder, "data");
  return existsSync(data) ? homeIn(folder, chooseAccount(data)) : undefined;
};

const assertReachable = (home: Home): Home => {
  const readable = home.account !== undefined || statSync(home.data).uid === process.getuid?.();
  if (readable && mayEnter(home.account, home.folder)) return home;
  throw new AppError({
    code: "postgres_data_unreachable",
    kind: "operational",
    message: `The database in ${home.data} belongs to another user or lies where its user may not go: start as the user who started it first, or wipe it with \`npm run reset\`.`,
  });
};

/**
 * Finds or makes the place for the data of `dir`: `dir` itself, or, when root starts PostgreSQL for another account that
 * may not enter `dir`, a folder of its own under /var/lib/shaman that `dir/outside` names.
 */
export const prepareHome = (dir: string): Home => {
  makeFolder(dir);
  const known = findHome(dir);
  if (known !== undefined) return assertReachable(known);
  const account = chooseAccount(undefined);
  if (mayEnter(account, dir)) return homeIn(dir, account);
  const outside = outsideFolder(dir);
  // Data there that `dir` does not name belonged to an installation that was wiped: its password and keys are gone.
  if (!namedOutside(dir).includes(outside)) rmSync(outside, { recursive: true, force: true });
  makeOpenFolder(outside);
  nameOutside(dir, outside);
  return homeIn(outside, account);
};

/** The binaries where the account of `home` can run them: as installed, or copied once beside the data of this checkout. */
export const runnableBinaries = (dir: string, home: Home, installed: Binaries): Binaries => {
  if (mayRun(home.account, installed.postgres) && mayRun(home.account, installed.initdb)) return installed;
  const folder = outsideFolder(installed.root);
  const copied = binariesBelow(join(folder, "native"));
  makeOpenFolder(folder);
  nameOutside(dir, folder);
  if (mayRun(home.account, copied.postgres) && mayRun(home.account, copied.initdb)) return copied;
  const fresh = join(folder, `copying-${process.pid}`);
  cpSync(installed.root, fresh, { recursive: true, verbatimSymlinks: true });
  execFileSync("chmod", ["-R", "a+rX", fresh]);
  rmSync(copied.root, { recursive: true, force: true });
  renameSync(fresh, copied.root);
  return copied;
};
