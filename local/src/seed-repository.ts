import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { createOperatorPrincipal } from "@shaman/access";
import {
  getRepository,
  listAgents,
  registerRepository,
  removeRepository,
  requestSync,
  type RepositoryDetail,
} from "@shaman/agents";
import type { Db } from "@shaman/db";
import { unwrap } from "@shaman/kernel";
import type { Outbound } from "@shaman/outbound";
import type { SecretKeys } from "@shaman/secrets";
import { SEED_ORIGIN } from "./seed-organization.ts";

/** So that a push to the local repository is live soon, without anyone asking. */
const SYNC_EVERY_SECONDS = 10;
const POLL_MS = 50;

const operatorOf = (orgId: string) => createOperatorPrincipal({ orgId, name: "local" });

/**
 * Makes sure that the organization has this local repository under this name, and asks for a sync: the worker does it as
 * soon as it runs. Gives the database's time of the request.
 */
export const seedRepository = async (
  deps: { readonly db: Db; readonly outbound: Outbound; readonly secretKeys: SecretKeys },
  { orgId, name, folder }: { readonly orgId: string; readonly name: string; readonly folder: string },
): Promise<Date> => {
  const services = { ...deps, origin: SEED_ORIGIN, checkGitUrl: deps.outbound.checkGitUrl };
  const operator = operatorOf(orgId);
  const remote = unwrap(await deps.outbound.checkGitUrl(pathToFileURL(folder).href));
  const known = await getRepository(services, operator, name);
  const moved = known.ok && known.value.url !== remote.url;
  // The checkout was moved or copied, and the address with it: the repository at the old one is not this one.
  if (moved) unwrap(await removeRepository(services, operator, name));
  if (!known.ok || moved) {
    const input = { name, url: remote.url, syncEverySeconds: SYNC_EVERY_SECONDS };
    unwrap(await registerRepository(services, operator, input));
  }
  const { since } = unwrap(await requestSync(services, operator, name));
  return since;
};

/** Agents that are live already are good enough; else the sync that was asked for must have ended, well or badly. */
const isDecided = ({ liveCommit, attemptedAt }: RepositoryDetail, since: Date): boolean =>
  liveCommit !== null || (attemptedAt !== null && attemptedAt > since);

/**
 * The names of the organization's exposed agents, once the first sync has ended; a later sync is not waited for. What is
 * wrong with the repository is said through `log`.
 */
export const waitForAgents = async (
  deps: { readonly db: Db; readonly log: (line: string) => void },
  input: {
    readonly orgId: string;
    readonly name: string;
    /** When the sync was asked for. */
    readonly since: Date;
    readonly timeoutMs: number;
    readonly signal: AbortSignal;
  },
): Promise<string[]> => {
  const operator = operatorOf(input.orgId);
  const until = Date.now() + input.timeoutMs;
  let repository = unwrap(await getRepository(deps, operator, input.name));
  while (!isDecided(repository, input.since) && Date.now() < until) {
    await sleep(POLL_MS, undefined, { signal: input.signal });
    repository = unwrap(await getRepository(deps, operator, input.name));
  }
  if (repository.error !== null) deps.log(`Repository ${input.name}: ${repository.error.message}`);
  else if (!isDecided(repository, input.since)) {
    deps.log(`Repository ${input.name} is not synced yet; its agents come later.`);
  }
  const { agents } = unwrap(await listAgents(deps, operator));
  return agents.filter(({ exposed }) => exposed).map(({ name }) => name);
};
