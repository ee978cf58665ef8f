import { join } from "node:path";
import { userInfo } from "node:os";
import { createOperatorPrincipal, formatCacheChange, type AccessDeps, type Principal } from "@shaman/access";
import { createDb, type Db } from "@shaman/db";
import { AppError, systemClock, userError, type Clock, type Secret } from "@shaman/kernel";
import { createOutbound, type Outbound } from "@shaman/outbound";
import {
  CHANNELS,
  createPostgresFanOut,
  createPostgresJobQueue,
  createRedisFanOut,
  createRedisJobQueue,
  type FanOut,
  type JobQueue,
} from "@shaman/queue";
import { parseSecretKeys, type SecretKeys } from "@shaman/secrets";
import { findOrganization, listOrganizations, type Organization } from "@shaman/tenancy";
import type { CliConfig } from "./config.ts";
import type { Io } from "./io.ts";
import { findLocalState, type LocalState } from "./local-state.ts";

export type CliInput = {
  readonly io: Io;
  readonly config: CliConfig;
  readonly variable: (name: string) => string | undefined;
  readonly root: string;
};

/** What a command works with. Connections are opened when a command first asks for them, and closed after it. */
export type Cli = {
  readonly io: Io;
  readonly clock: Clock;
  readonly config: CliConfig;
  readonly root: string;
  /** A variable of the environment that the user named. */
  readonly variable: (name: string) => string | undefined;
  /** `operator:` and the login name. */
  readonly actor: string;
  readonly origin: AccessDeps["origin"];
  /** Chooses among several copies of `npm start`. */
  readonly usePort: (port: number | undefined) => void;
  readonly localState: () => LocalState | undefined;
  readonly databaseUrl: () => Secret;
  readonly redisUrl: () => Secret | undefined;
  readonly db: () => Db;
  readonly queue: () => JobQueue;
  readonly fanOut: () => FanOut;
  readonly outbound: () => Outbound;
  readonly secretKeys: () => SecretKeys;
  /** The organization that `--org`, SHAMAN_ORG or there being only one names. */
  readonly organization: (slug: string | undefined) => Promise<Organization>;
  readonly operatorOf: (organization: Organization) => Principal;
  readonly access: () => AccessDeps;
  readonly close: () => Promise<void>;
};

const POOL_SIZE = 4;
const NAME = "shaman-cli";

export const createCli = (input: CliInput): Cli => {
  const { io, config } = input;
  const closers: (() => Promise<void>)[] = [];
  let port: number | undefined;

  const once = <T>(open: () => T, close?: (opened: T) => Promise<void>): (() => T) => {
    let opened: { readonly value: T } | undefined;
    return () => {
      if (opened !== undefined) return opened.value;
      const value = open();
      opened = { value };
      if (close !== undefined) closers.unshift(() => close(value));
      return value;
    };
  };
  // A broken connection shows in the query that wanted it; there is no log to write to.
  const onError = (): void => undefined;

  const localState = once(() => findLocalState(input.root, port));
  const databaseUrl = once(() => chooseDatabaseUrl(config.cli.databaseUrl, localState));
  const redisUrl = once(() => config.redis?.url ?? localState()?.redisUrl);
  const db = once(
    () => createDb({ url: databaseUrl(), poolSize: POOL_SIZE, name: NAME, onError }),
    (opened) => opened.close(),
  );
  const queue = once(
    () => {
      const options = { name: NAME, onError, takes: false };
      const redis = redisUrl();
      return redis === undefined
        ? createPostgresJobQueue({ ...options, url: databaseUrl(), poolSize: POOL_SIZE })
        : createRedisJobQueue({ ...options, url: redis });
    },
    (opened) => opened.close(),
  );
  const fanOut = once(
    () => {
      const redis = redisUrl();
      return redis === undefined
        ? createPostgresFanOut({ name: NAME, onError, db: db(), url: databaseUrl() })
        : createRedisFanOut({ name: NAME, onError, url: redis });
    },
    (opened) => opened.close(),
  );
  const outbound = once(
    () => {
      const local = localState();
      const development = { allowLoopback: true, mapLocalhost: true, allowHttp: true };
      const gitFileRoot = config.agents.gitFileRoot ?? (local === undefined ? undefined : join(input.root, ".shaman"));
      return createOutbound({
        ...(local === undefined ? config.outbound : development),
        ...(gitFileRoot !== undefined && { gitFileRoot }),
      });
    },
    (opened) => opened.close(),
  );

  const operatorName = userInfo().username;
  const origin = { server: "cli", protocol: "cli" };
  return {
    io,
    clock: systemClock,
    config,
    root: input.root,
    variable: input.variable,
    actor: `operator:${operatorName}`,
    origin,
    usePort: (chosen) => {
      port = chosen;
    },
    localState,
    databaseUrl,
    redisUrl,
    db,
    queue,
    fanOut,
    outbound,
    secretKeys: once(() => readSecretKeys(config.cli.secretKeys ?? localState()?.secretKeys)),
    organization: (slug) => chooseOrganization(db(), slug ?? config.cli.organization),
    operatorOf: (organization) => createOperatorPrincipal({ orgId: organization.id, name: operatorName }),
    access: () => ({
      db: db(),
      clock: systemClock,
      origin,
      announceKeyChange: async ({ orgId, keyId }) =>
        fanOut().publish(CHANNELS.cache, formatCacheChange({ what: "key", orgId, id: keyId })),
    }),
    close: async () => {
      for (const close of closers) await close();
    },
  };
};

export const ROOT = join(import.meta.dirname, "..", "..");

/**
 * DATABASE_URL, else what a running `npm start` left. Where DATABASE_URL is the owner's, as `npm start` takes it, the role
 * for management that it derived from it is used instead.
 */
const chooseDatabaseUrl = (given: Secret | undefined, localState: () => LocalState | undefined): Secret => {
  if (given !== undefined) {
    const url = URL.parse(given.reveal());
    if (url === null || url.username === "shaman_web") return given;
    const derived = localState()?.databaseUrl;
    const sameDatabase = derived !== undefined && databaseOf(derived.reveal()) === databaseOf(given.reveal());
    return sameDatabase ? derived : given;
  }
  const local = localState();
  if (local !== undefined) return local.databaseUrl;
  throw new AppError({
    code: "no_database",
    kind: "user",
    message:
      "No Shaman was found here. Start it with npm start, or set DATABASE_URL to its database as the role shaman_web.",
  });
};

const databaseOf = (url: string): string => {
  const { hostname, port, pathname } = new URL(url);
  return `${hostname}:${port || "5432"}${pathname}`;
};

const readSecretKeys = (text: Secret | undefined): SecretKeys => {
  if (text === undefined) {
    throw userError(
      "no_secret_keys",
      "SHAMAN_SECRET_KEYS is missing: set it to what the servers have, kid:base64url,…",
    );
  }
  const keys = parseSecretKeys(text.reveal());
  if (keys.ok) return keys.value;
  throw userError("secret_keys_invalid", `SHAMAN_SECRET_KEYS: ${keys.error}`);
};

const chooseOrganization = async (db: Db, slug: string | undefined): Promise<Organization> => {
  if (slug !== undefined) {
    const found = await findOrganization({ db }, slug.startsWith("org_") ? { id: slug } : { slug });
    if (found !== undefined) return found;
  }
  const page = await listOrganizations({ db }, { first: 20 });
  if (!page.ok) throw page.error;
  const [first, ...more] = page.value.organizations;
  if (first === undefined) {
    throw userError("no_organization", 'There is no organization yet. Make one: ./shaman org create acme "Acme Inc."');
  }
  if (slug === undefined && more.length === 0) return first;
  const names = [first, ...more].map((each) => each.slug).join(", ");
  const problem = slug === undefined ? "There are several organizations" : `There is no organization "${slug}"`;
  throw userError("organization_not_found", `${problem}: choose one with --org, such as ${names}.`);
};
