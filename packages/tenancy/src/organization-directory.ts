import type { Db } from "@shaman/db";
import { createFreshness, type Clock } from "@shaman/kernel";
import { LRUCache } from "lru-cache";
import { findOrganization } from "./find-organization.ts";
import { slugOfHost } from "./host.ts";
import type { Organization } from "./organization.ts";

export type OrganizationDirectory = {
  /** The organization that a Host header names; undefined when it names none. Throws when the database is away. */
  readonly byHost: (host: string) => Promise<Organization | undefined>;
  readonly byId: (orgId: string) => Promise<Organization | undefined>;
  /** Forgets an organization when a change of it is told, or everything when changes may have been missed. */
  readonly invalidate: (orgId?: string) => void;
};

export type OrganizationDirectoryDeps = {
  readonly db: Pick<Db, "unscoped">;
  readonly clock: Clock;
  readonly baseDomain: string;
  readonly cacheEntries?: number;
  /** How old an answer may be, "there is none" included. */
  readonly cacheTtlMs?: number;
  /** Until when every change of an organization was told to this directory; what it remembers was true then. */
  readonly toldUntilMs?: () => number;
};

const DEFAULT_CACHE_ENTRIES = 20_000;
const DEFAULT_CACHE_TTL_MS = 5_000;

type Answer = { readonly organization: Organization | undefined; readonly askedMs: number };

/**
 * Organizations by host or id, remembered while they are known to be unchanged. Hosts without an organization are remembered apart, so
 * that made-up hosts push out none that exists, and each question is asked once however many callers wait for it.
 */
export const createOrganizationDirectory = (deps: OrganizationDirectoryDeps): OrganizationDirectory => {
  const max = deps.cacheEntries ?? DEFAULT_CACHE_ENTRIES;
  const { clock, toldUntilMs } = deps;
  const isFresh = createFreshness({ clock, toldUntilMs, ttlMs: deps.cacheTtlMs ?? DEFAULT_CACHE_TTL_MS });
  const known = new LRUCache<string, Answer>({ max });
  const missing = new LRUCache<string, Answer>({ max });
  const loading = new Map<string, Promise<Answer>>();
  let invalidations = 0;

  const load = async (key: string, by: Parameters<typeof findOrganization>[1]): Promise<Answer> => {
    const askedMs = clock.now();
    const before = invalidations;
    const answer = { organization: await findOrganization(deps, by), askedMs };
    if (before === invalidations) (answer.organization === undefined ? missing : known).set(key, answer);
    return answer;
  };

  const find = async (key: string, by: Parameters<typeof findOrganization>[1]): Promise<Organization | undefined> => {
    const cached = known.get(key) ?? missing.get(key);
    if (cached !== undefined && isFresh(cached.askedMs)) return cached.organization;
    let running = loading.get(key);
    if (running === undefined) {
      const started = load(key, by).finally(() => {
        if (loading.get(key) === started) loading.delete(key);
      });
      loading.set(key, started);
      running = started;
    }
    return (await running).organization;
  };

  return {
    byHost: async (host) => {
      const slug = slugOfHost(host, deps.baseDomain);
      return slug === undefined ? undefined : find(`slug ${slug}`, { slug });
    },
    byId: (orgId) => find(`id ${orgId}`, { id: orgId }),
    invalidate: (orgId) => {
      invalidations += 1;
      if (orgId === undefined) known.clear();
      // By its id and by a slug that it may no longer have.
      else for (const [key, { organization }] of known.entries()) if (organization?.id === orgId) known.delete(key);
      // It may be new, or have taken a name that was free.
      missing.clear();
      loading.clear();
    },
  };
};
