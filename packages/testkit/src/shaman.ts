import { spawn, type ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { createApiKey, createOperatorPrincipal } from "@shaman/access";
import { createGitSource, registerRepository, syncRepository, type SyncReport } from "@shaman/agents";
import { addExternalAgent, type AddExternalAgentInput } from "@shaman/external";
import { systemClock, unwrap } from "@shaman/kernel";
import { authorizeClient, registerMcpServer, type OauthClient, type RegisterMcpServerInput } from "@shaman/mcp";
import { createOutbound } from "@shaman/outbound";
import { parseScript } from "@shaman/scripts";
import { parseSecretKeys, type SecretKeys } from "@shaman/secrets";
import { setModelCredential, type SetModelCredentialInput } from "@shaman/tenancy";
import { Agent, request } from "undici";
import { freePort } from "./free-port.ts";
import { givenGitRemote, type RemoteFile } from "./git-remote.ts";
import { testDatabase, type TestDatabase } from "./test-database.ts";

export type ProcessName = "public" | "internal" | "worker";

export type ShamanProcess = {
  readonly name: ProcessName;
  readonly pid: () => number;
  readonly kill: (signal: NodeJS.Signals) => Promise<void>;
  /** The exit code once it has ended by itself. */
  readonly exitCode: () => number | null;
  /** Sends a signal without waiting for an end. */
  readonly signal: (signal: NodeJS.Signals) => void;
  readonly start: () => Promise<void>;
  /** Everything it wrote. */
  readonly output: () => string;
};

export type TestOrg = {
  readonly orgId: string;
  readonly slug: string;
  readonly host: string;
  readonly apiKey: string;
  readonly apiKeyId: string;
  readonly repositoryId: string;
  /** Commits exactly these files and syncs. */
  readonly push: (files: Readonly<Record<string, RemoteFile>>) => Promise<SyncReport>;
  /** Registers an agent of another organization by its card. */
  readonly addOutsideAgent: (input: AddExternalAgentInput) => Promise<void>;
  /** Registers an MCP server; with a client, one that is authorized by OAuth client credentials. */
  readonly addMcpServer: (input: RegisterMcpServerInput, client?: OauthClient) => Promise<void>;
  /** Registers a model provider, or changes it. */
  readonly setModel: (input: SetModelCredentialInput) => Promise<void>;
  /** Registers one more repository with these files, synced. */
  readonly addRepository: (name: string, files: Readonly<Record<string, RemoteFile>>) => Promise<SyncReport>;
};

export type HttpAnswer = {
  readonly status: number;
  readonly headers: Record<string, string | string[] | undefined>;
  readonly text: string;
  // oxlint-disable-next-line typescript/no-explicit-any -- a test looks into answers of many shapes
  readonly json: any;
};

export type Shaman = {
  readonly database: TestDatabase;
  readonly processes: Readonly<Record<ProcessName, ShamanProcess>>;
  readonly publicUrl: string;
  readonly internalUrl: string;
  /** Where the worker tells how it is. */
  readonly workerUrl: string;
  readonly jwtKeys: string;
  /** Where the processes keep what they write to disk. */
  readonly folder: string;
  /** What the servers seal secrets with. */
  readonly secretKeys: SecretKeys;
  /** An organization with a key for all agents and a repository with these files, synced. */
  readonly givenOrg: (files: Readonly<Record<string, RemoteFile>>) => Promise<TestOrg>;
  /** Starts one more worker beside the first. */
  readonly addWorker: () => Promise<ShamanProcess>;
  readonly http: (
    org: Pick<TestOrg, "host" | "apiKey">,
    call: {
      readonly method?: "GET" | "POST";
      readonly path: string;
      readonly body?: string;
      readonly headers?: Record<string, string>;
    },
  ) => Promise<HttpAnswer>;
  /** One JSON-RPC call of an agent. */
  readonly rpc: (
    org: Pick<TestOrg, "host" | "apiKey">,
    call: {
      readonly agent: string;
      readonly method: string;
      readonly params: unknown;
      readonly headers?: Record<string, string>;
    },
  ) => Promise<HttpAnswer>;
  readonly close: () => Promise<void>;
};

export type ShamanOptions = {
  readonly redisUrl?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly database?: TestDatabase;
};

const ROOT = fileURLToPath(new URL("../../../", import.meta.url));
const BASE_DOMAIN = "localhost";

/** All three servers as real processes on a database of their own, with quick leases. */
export const startShaman = async (options: ShamanOptions = {}): Promise<Shaman> => {
  const database = options.database ?? (await testDatabase());
  const dir = await mkdtemp(join(tmpdir(), "shaman-"));
  const [publicPort, internalPort, healthPort] = [await freePort(), await freePort(), await freePort()];
  const internalUrl = `http://127.0.0.1:${internalPort}`;
  const publicUrl = `http://127.0.0.1:${publicPort}`;
  const jwtKeys = `test:${randomBytes(32).toString("base64url")}`;
  const secretKeysText = `test:${randomBytes(32).toString("base64url")}`;
  const downloadKeys = `test:${randomBytes(32).toString("base64url")}`;
  const common = {
    PATH: process.env.PATH ?? "",
    NODE_ENV: "development",
    BASE_DOMAIN,
    PUBLIC_URL_TEMPLATE: `http://{org}.localhost:${publicPort}`,
    INTERNAL_URL: internalUrl,
    WORKER_HEALTH_PORT: String(healthPort),
    GIT_CACHE_DIR: join(dir, "git"),
    // A worker that looks for what is due may sync a test's repository before the test does.
    GIT_FILE_ROOT: tmpdir(),
    ARTIFACT_DIR: join(dir, "artifacts"),
    LEASE_MS: "2000",
    LEASE_RENEW_MS: "500",
    SWEEP_MS: "500",
    SWEEP_AFTER_MS: "1000",
    SHUTDOWN_GRACE_MS: "1000",
    // Connections are opened at the start, and the files of a test run share one PostgreSQL.
    DATABASE_POOL_SIZE: "5",
    ...(options.redisUrl !== undefined && { REDIS_URL: options.redisUrl }),
    ...options.env,
  };
  const trusted = { ...common, INTERNAL_JWT_KEYS: jwtKeys, SHAMAN_SECRET_KEYS: secretKeysText };
  const { roleUrls } = database;
  const a2a = join(ROOT, "a2a/src/main.ts");
  const workerProcess = (port: number): ShamanProcess =>
    shamanProcess({
      name: "worker",
      args: [join(ROOT, "worker/src/main.ts")],
      env: { ...trusted, WORKER_HEALTH_PORT: String(port), DATABASE_URL: roleUrls.worker.reveal() },
      readyUrl: `http://127.0.0.1:${port}/ready`,
    });
  const moreWorkers: ShamanProcess[] = [];
  const processes = {
    internal: shamanProcess({
      name: "internal",
      args: [a2a, "--role", "internal", "--port", String(internalPort)],
      env: { ...trusted, DATABASE_URL: roleUrls.internal.reveal() },
      readyUrl: `${internalUrl}/ready`,
    }),
    worker: workerProcess(healthPort),
    public: shamanProcess({
      name: "public",
      args: [a2a, "--role", "public", "--port", String(publicPort)],
      env: { DOWNLOAD_URL_KEYS: downloadKeys, ...common, DATABASE_URL: roleUrls.public.reveal() },
      readyUrl: `${publicUrl}/ready`,
    }),
  };
  await Promise.all(Object.values(processes).map((one) => one.start()));

  const secretKeys = unwrapText(parseSecretKeys(secretKeysText));
  const outbound = createOutbound({ allowLoopback: true, mapLocalhost: true, allowHttp: true, gitFileRoot: tmpdir() });
  const git = createGitSource({ cacheDir: join(dir, "test-git"), checkGitUrl: outbound.checkGitUrl });
  const agent = new Agent({ connections: 100 });
  const remotes: { readonly close: () => Promise<void> }[] = [];

  const givenOrg: Shaman["givenOrg"] = async (files) => {
    const { orgId, slug } = await database.givenOrg();
    const operator = createOperatorPrincipal({ orgId, name: "test" });
    const web = {
      db: database.as("web"),
      clock: systemClock,
      origin: { server: "cli" },
      secretKeys,
      checkGitUrl: outbound.checkGitUrl,
      checkUrl: outbound.checkUrl,
      outbound,
    };
    const { key, record } = unwrap(
      await createApiKey(web, operator, { name: "test", mode: "test", agents: "*", ratePerSecond: 0 }),
    );
    const register = async (name: string, first: Readonly<Record<string, RemoteFile>>) => {
      const remote = await givenGitRemote();
      await remote.commit(first);
      remotes.push(remote);
      const { repositoryId } = unwrap(await registerRepository(web, operator, { name, url: remote.url }));
      const sync = async () =>
        unwrap(
          await syncRepository({ db: database.as("worker"), git, secretKeys, parseScript }, { orgId, repositoryId }),
        );
      return { remote, repositoryId, sync, report: await sync() };
    };
    const { remote, repositoryId, sync } = await register("agents", files);
    const push: TestOrg["push"] = async (next) => {
      await remote.commit(next);
      return sync();
    };
    const addRepository: TestOrg["addRepository"] = async (name, first) => (await register(name, first)).report;
    const addOutsideAgent: TestOrg["addOutsideAgent"] = async (input) => {
      unwrap(await addExternalAgent(web, operator, input));
    };
    const addMcpServer: TestOrg["addMcpServer"] = async (input, client) => {
      const oauth = { fetch: outbound.fetch, clock: systemClock };
      const state =
        client === undefined ? undefined : unwrap(await authorizeClient(oauth, { serverUrl: input.url, client }));
      const auth = state === undefined ? input.auth : ({ kind: "oauth", state } as const);
      unwrap(await registerMcpServer(web, operator, { ...input, ...(auth !== undefined && { auth }) }));
    };
    const setModel: TestOrg["setModel"] = async (input) => {
      unwrap(await setModelCredential(web, operator, input));
    };
    const host = `${slug}.${BASE_DOMAIN}:${publicPort}`;
    return {
      orgId,
      slug,
      host,
      apiKey: key.reveal(),
      apiKeyId: record.id,
      repositoryId,
      push,
      addOutsideAgent,
      addMcpServer,
      setModel,
      addRepository,
    };
  };

  const http: Shaman["http"] = async (org, call) => {
    const answer = await request(`${publicUrl}${call.path}`, {
      dispatcher: agent,
      method: call.method ?? "GET",
      headers: {
        host: org.host,
        authorization: `Bearer ${org.apiKey}`,
        ...(call.body !== undefined && { "content-type": "application/json" }),
        "a2a-version": "1.0",
        ...call.headers,
      },
      ...(call.body !== undefined && { body: call.body }),
      headersTimeout: 70_000,
    });
    const text = await answer.body.text();
    const isJson = String(answer.headers["content-type"]).includes("json");
    return { status: answer.statusCode, headers: answer.headers, text, json: isJson ? JSON.parse(text) : undefined };
  };

  return {
    database,
    processes,
    publicUrl,
    internalUrl,
    workerUrl: `http://127.0.0.1:${healthPort}`,
    jwtKeys,
    folder: dir,
    secretKeys,
    givenOrg,
    addWorker: async () => {
      const worker = workerProcess(await freePort());
      moreWorkers.push(worker);
      await worker.start();
      return worker;
    },
    http,
    rpc: (org, { agent: name, method, params, headers = {} }) =>
      http(org, {
        method: "POST",
        path: `/a2a/v1/agents/${name}`,
        body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }),
        headers,
      }),
    close: async () => {
      await agent.destroy();
      await Promise.all([...Object.values(processes), ...moreWorkers].map((one) => one.kill("SIGKILL")));
      await Promise.all(remotes.map((remote) => remote.close()));
      await outbound.close();
      await database.close();
      await rm(dir, { recursive: true, force: true });
    },
  };
};

const unwrapText = <T>(
  result: { readonly ok: true; readonly value: T } | { readonly ok: false; readonly error: string },
): T => {
  if (result.ok) return result.value;
  throw new Error(result.error);
};

const shamanProcess = (input: {
  readonly name: ProcessName;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly readyUrl: string;
}): ShamanProcess => {
  let child: ChildProcess | undefined;
  let output = "";
  const running = (): ChildProcess => {
    if (child === undefined) throw new Error(`${input.name} is not running`);
    return child;
  };
  return {
    name: input.name,
    pid: () => running().pid ?? 0,
    output: () => output,
    exitCode: () => running().exitCode,
    signal: (signal) => void running().kill(signal),
    kill: async (signal) => {
      if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
      const exited = once(child, "exit");
      child.kill(signal);
      await exited;
    },
    start: async () => {
      const started = spawn(process.execPath, [...input.args], {
        env: { ...input.env },
        stdio: ["ignore", "pipe", "pipe"],
      });
      child = started;
      const ready = Promise.withResolvers<void>();
      const exited = once(started, "exit").then(() => ready.reject(new Error(`${input.name} ended:\n${output}`)));
      exited.catch(() => undefined);
      started.stderr.on("data", (chunk: Buffer) => (output += chunk.toString()));
      createInterface({ input: started.stdout }).on("line", (line) => {
        output += `${line}\n`;
        if (line.includes('"event":"ready"')) ready.resolve();
      });
      await ready.promise;
    },
  };
};
