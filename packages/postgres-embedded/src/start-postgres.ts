import { once } from "node:events";
import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { AppError } from "@shaman/kernel";
import pg from "pg";
import { locateBinaries } from "./binaries.ts";
import { ensureCluster, OWNER, readPassword, spawnServer } from "./cluster.ts";
import { prepareHome, runnableBinaries, type Home } from "./home.ts";
import { findPostmaster, stopPostmaster, whenGone } from "./postmaster.ts";

export type StartPostgresOptions = {
  /** Absolute path of the folder for the data; made when missing. */
  readonly dir: string;
  /** 0 takes any free port. */
  readonly port: number;
  /** Gets a sentence for each thing worth telling. */
  readonly log: (line: string) => void;
  /** PostgreSQL settings that replace ours, such as `{ max_connections: "50" }`. */
  readonly settings?: Readonly<Record<string, string>>;
};

export type RunningPostgres = {
  /** Address of the database `shaman` as the owner of everything, with the password. */
  readonly url: string;
  readonly port: number;
  readonly pid: number;
  /** Resolves when the server ended, whoever ended it. */
  readonly exited: Promise<void>;
  /** Cuts connections, writes a checkpoint and waits until the server is gone. */
  readonly stop: () => Promise<void>;
};

const HOST = "127.0.0.1";
const DATABASE = "shaman";
const START_TIMEOUT_MS = 60_000;
const START_TRIES = 5;
const POLL_MS = 20;
const ADOPT_TRIES = 100;

const SETTINGS: Readonly<Record<string, string>> = {
  listen_addresses: HOST,
  unix_socket_directories: "",
  max_connections: "200",
  shared_buffers: "256MB",
  fsync: "on",
  synchronous_commit: "on",
  jit: "off",
};

const fault = (message: string, cause?: unknown): AppError =>
  new AppError({ code: "postgres_failed", kind: "operational", message, cause });

const urlOf = (home: Home, port: number, database: string): string =>
  `postgres://${OWNER}:${encodeURIComponent(readPassword(home))}@${HOST}:${port}/${database}`;

const withClient = async <T>(url: string, use: (client: pg.Client) => Promise<T>): Promise<T> => {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000 });
  client.on("error", () => {});
  try {
    await client.connect();
    return await use(client);
  } finally {
    await client.end().catch(() => {});
  }
};

const answers = (url: string): Promise<boolean> => withClient(url, () => Promise.resolve(true)).catch(() => false);

const ensureDatabase = (home: Home, port: number): Promise<void> =>
  withClient(urlOf(home, port, "postgres"), async (client) => {
    const found = await client.query("SELECT 1 FROM pg_database WHERE datname = $1", [DATABASE]);
    if (found.rowCount === 0) await client.query(`CREATE DATABASE ${DATABASE}`);
  });

/** Whether nothing listens on the port yet; for 0, the free port the system chose. */
const reservePort = async (port: number): Promise<number> => {
  const server = createServer();
  server.listen(port, HOST);
  try {
    await once(server, "listening");
  } catch (cause) {
    throw new AppError({
      code: "port_taken",
      kind: "operational",
      message: `Port ${port}, which PostgreSQL needs, is taken by another program.`,
      details: { port },
      cause,
    });
  }
  const address = server.address();
  server.close();
  await once(server, "close");
  return address !== null && typeof address === "object" ? address.port : port;
};

/** Takes over a server that a killed process left running, when it is usable as it is; else stops it. */
const adoptLeftover = async (home: Home, options: StartPostgresOptions): Promise<RunningPostgres | undefined> => {
  const leftover = findPostmaster(home.data);
  if (leftover === undefined) return undefined;
  const { pid, port } = leftover;
  if (options.port === 0 || options.port === port) {
    for (let tries = 0; tries < ADOPT_TRIES; tries += 1) {
      if (await answers(urlOf(home, port, "postgres"))) {
        options.log(`PostgreSQL was still running (process ${pid}) and is used again.`);
        return { url: urlOf(home, port, DATABASE), port, pid, exited: whenGone(pid), stop: () => stopPostmaster(pid) };
      }
      await sleep(POLL_MS);
    }
  }
  options.log(`PostgreSQL was still running (process ${pid}); it is stopped first.`);
  await stopPostmaster(pid);
  return undefined;
};

const startServer = async (home: Home, options: StartPostgresOptions): Promise<RunningPostgres | "again"> => {
  const binaries = runnableBinaries(options.dir, home, locateBinaries());
  ensureCluster(home, binaries);
  const port = await reservePort(options.port);
  const settings = { ...SETTINGS, ...options.settings };
  const { child, readLog } = spawnServer(home, binaries, { port, settings });
  const state = { ended: false };
  const exited = new Promise<void>((resolve) => {
    const end = (): void => {
      state.ended = true;
      resolve();
    };
    child.once("exit", end);
    child.once("error", end);
  });
  const until = Date.now() + START_TIMEOUT_MS;
  while (!(await answers(urlOf(home, port, "postgres")))) {
    if (state.ended) {
      const log = readLog();
      // Processes of a killed server may live a moment longer, and a free port may be taken meanwhile.
      if (/shared memory block|Address already in use/.test(log)) return "again";
      throw fault(`PostgreSQL ended while it started. Its last words (${home.logFile}): ${log.trim()}`);
    }
    if (Date.now() > until) {
      child.kill("SIGQUIT");
      throw fault(`PostgreSQL did not become ready within 60 s; see ${home.logFile}.`);
    }
    await sleep(POLL_MS);
  }
  const pid = child.pid ?? 0;
  const stop = async (): Promise<void> => {
    if (!state.ended) await stopPostmaster(pid);
  };
  return { url: urlOf(home, port, DATABASE), port, pid, exited, stop };
};

/**
 * Starts the PostgreSQL that comes with the project, on loopback and with a password, and makes the database `shaman`.
 * Takes over a server that a killed process left behind. As root it runs as another user, and where that user may not
 * enter `dir` the files lie below /var/lib/shaman; `dir/outside` then names the folders.
 * Throws an `AppError` (`port_taken`, `postgres_failed`, `postgres_not_available`, …) whose message says what to do.
 */
export const startPostgres = async (options: StartPostgresOptions): Promise<RunningPostgres> => {
  const home = prepareHome(options.dir);
  const adopted = await adoptLeftover(home, options);
  if (adopted !== undefined) {
    await ensureDatabase(home, adopted.port);
    return adopted;
  }
  for (let tries = 1; tries <= START_TRIES; tries += 1) {
    const started = await startServer(home, options);
    if (started !== "again") {
      await ensureDatabase(home, started.port);
      return started;
    }
    await sleep(tries * 500);
  }
  throw fault(`PostgreSQL could not start on port ${options.port}; see ${home.logFile}.`);
};
