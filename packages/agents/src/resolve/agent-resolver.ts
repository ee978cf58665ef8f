import type { Db } from "@shaman/db";
import { createFreshness, err, ok, userError, type AppError, type Clock, type Result } from "@shaman/kernel";

import type { AgentDefinition } from "../definition/agent-definition.ts";
import { nameOfPath } from "../definition/agent-name.ts";
import { didYouMean, findNearNames } from "../definition/near-name.ts";
import type { SnapshotManifest } from "../sync/snapshot-manifest.ts";
import { loadLiveNames, type LiveAgent, type LiveNames } from "./live-names.ts";
import { loadManifest, loadVersions, type LoadedVersion } from "./load-versions.ts";
import { createWeightedCache } from "./weighted-cache.ts";

/** An agent at a commit: what a run pins and what the engine runs. */
export type ResolvedAgent = {
  readonly orgId: string;
  readonly repositoryId: string;
  readonly commit: string;
  readonly agentId: string;
  readonly versionId: string;
  readonly definition: AgentDefinition;
};

type PinnedSnapshot = { readonly orgId: string; readonly repositoryId: string; readonly commit: string };

export type PinnedInput = PinnedSnapshot & {
  /** The agent's path in the repository, or a name that an agent of it may use: alias, name, or path. */
} & ({ readonly path: string } | { readonly name: string });

export type AgentResolver = {
  /**
   * The agent that callers outside mean by a name: exposed ones only. Error: `agent_not_found`, the same for private,
   * foreign and unknown names, with exposed names that are near.
   */
  readonly resolveExposed: (input: { readonly orgId: string; readonly name: string }) => Promise<Result<ResolvedAgent>>;
  /** An agent of a repository at a commit, private or not. Errors: `agent_not_found`, `agent_external`. */
  readonly resolvePinned: (input: PinnedInput) => Promise<Result<ResolvedAgent>>;
  /** Agents of a repository at a commit, private ones too, ordered by path: the first `limit` of them. */
  readonly listPinned: (input: PinnedSnapshot & { readonly limit: number }) => Promise<readonly ResolvedAgent[]>;
  /** What names of agents outside the organization a repository's `agents.json` has at a commit. */
  readonly listOutsideAliases: (
    input: PinnedSnapshot,
  ) => Promise<readonly { readonly name: string; readonly url: string }[]>;
  /** All exposed agents, ordered by name. */
  readonly listExposed: (orgId: string) => Promise<readonly ResolvedAgent[]>;
  /** The agent that answers for the organization: what `agents.json` says, or the only one that is exposed. */
  readonly defaultAgent: (orgId: string) => Promise<Result<ResolvedAgent>>;
  /** Forgets what an organization's names meant; call it when a sync has switched, or without an id for all of them. */
  readonly invalidate: (orgId?: string) => void;
};

export type AgentResolverDeps = {
  readonly db: Db;
  readonly clock: Clock;
  /** Until when every switch was told to this resolver; the names that it remembers were true then. */
  readonly toldUntilMs?: () => number;
};

const LIVE_MS = 1_000;
/** Longer than the time between two looks at what has changed. */
const LIVE_WHILE_TOLD_MS = 5_000;
/** Names in memory, over all organizations. */
const MAX_LIVE_NAMES = 200_000;
/** Characters of definitions, and entries of manifests, in memory. */
const MAX_DEFINITION_CHARS = 64 * 1024 * 1024;
const MAX_MANIFEST_ENTRIES = 500_000;
/** What an entry weighs besides its text. */
const ENTRY_CHARS = 2_000;

const notFound = (name: string, known: readonly string[]): AppError => {
  const shown = name.slice(0, 200);
  return userError("agent_not_found", `There is no agent ${JSON.stringify(shown)}.${didYouMean(shown, known)}`, {
    near: findNearNames(shown, known),
  });
};

const charsOf = (definition: AgentDefinition): number =>
  definition.template.reduce((sum, segment) => sum + (segment.kind === "text" ? segment.text.length : 0), ENTRY_CHARS) +
  (definition.script?.text.length ?? 0);

/** Asks for a thing once, however many want it at the same time. */
const createOnce = <V>(): ((key: string, load: () => Promise<V>) => Promise<V>) => {
  const loading = new Map<string, Promise<V>>();
  return (key, load) => {
    const known = loading.get(key);
    if (known !== undefined) return known;
    const promise = load().finally(() => {
      if (loading.get(key) === promise) loading.delete(key);
    });
    loading.set(key, promise);
    return promise;
  };
};

type Versions = {
  readonly peek: (orgId: string, versionId: string) => LoadedVersion | undefined;
  readonly load: (orgId: string, versionIds: readonly string[]) => Promise<ReadonlyMap<string, LoadedVersion>>;
};

/** Versions never change, so that they are kept for as long as there is room. */
const createVersions = (db: Db): Versions => {
  const cache = createWeightedCache<LoadedVersion>(MAX_DEFINITION_CHARS);
  const once = createOnce<ReadonlyMap<string, LoadedVersion>>();
  const keyOf = (orgId: string, versionId: string): string => `${orgId}\n${versionId}`;
  const peek: Versions["peek"] = (orgId, versionId) => cache.get(keyOf(orgId, versionId));
  const load: Versions["load"] = async (orgId, versionIds) => {
    const found = new Map<string, LoadedVersion>();
    for (const id of versionIds) {
      const known = peek(orgId, id);
      if (known !== undefined) found.set(id, known);
    }
    const missing = versionIds.filter((id) => !found.has(id));
    if (missing.length === 0) return found;
    const loaded = await once(keyOf(orgId, missing.join("\n")), () => loadVersions(db, orgId, missing));
    for (const [id, version] of loaded) {
      cache.set(keyOf(orgId, id), version, charsOf(version.definition));
      found.set(id, version);
    }
    return found;
  };
  return { peek, load };
};

type Names = {
  /** At once where they are known and fresh. */
  readonly peek: (orgId: string) => LiveNames | undefined;
  readonly load: (orgId: string) => Promise<LiveNames>;
  readonly invalidate: AgentResolver["invalidate"];
};

const createNames = (deps: AgentResolverDeps): Names => {
  const cache = createWeightedCache<{ readonly names: LiveNames; readonly askedMs: number }>(MAX_LIVE_NAMES);
  const { clock, toldUntilMs } = deps;
  const isFresh = createFreshness({
    clock,
    toldUntilMs,
    ttlMs: toldUntilMs === undefined ? LIVE_MS : LIVE_WHILE_TOLD_MS,
  });
  let once = createOnce<LiveNames>();
  // What was asked before an invalidation may not be remembered after it.
  let generation = 0;
  const peek: Names["peek"] = (orgId) => {
    const entry = cache.get(orgId);
    return entry !== undefined && isFresh(entry.askedMs) ? entry.names : undefined;
  };
  return {
    peek,
    load: (orgId) =>
      once(orgId, async () => {
        const asked = generation;
        const askedMs = clock.now();
        const names = await loadLiveNames(deps.db, orgId);
        if (asked === generation) cache.set(orgId, { names, askedMs }, names.byName.size + 1);
        return names;
      }),
    invalidate: (orgId) => {
      generation += 1;
      once = createOnce();
      if (orgId === undefined) cache.clear();
      else cache.delete(orgId);
    },
  };
};

/** The version that a name means within a repository's snapshot. */
const findInManifest = (
  manifest: SnapshotManifest,
  name: string,
):
  | { readonly kind: "path"; readonly path: string }
  | { readonly kind: "external"; readonly url: string }
  | undefined => {
  const alias = manifest.aliases.find((candidate) => candidate.name === name);
  if (alias?.target.kind === "external") return { kind: "external", url: alias.target.url };
  if (alias?.target.kind === "agent") return { kind: "path", path: alias.target.path };
  if (Object.hasOwn(manifest.agents, name)) return { kind: "path", path: name };
  const path = Object.keys(manifest.agents).find((candidate) => nameOfPath(candidate) === name);
  return path === undefined ? undefined : { kind: "path", path };
};

const external = (name: string, url: string): AppError =>
  userError("agent_external", `${name} is an alias for an agent elsewhere.`, { url });

/**
 * Finds agents: by public name at what is live, and by path or name at a commit that a run has pinned. What is known
 * costs no query: versions and snapshots never change, live names are trusted for a second, or while every switch is told.
 */
export const createAgentResolver = (deps: AgentResolverDeps): AgentResolver => {
  const versions = createVersions(deps.db);
  const names = createNames(deps);
  const manifests = createWeightedCache<SnapshotManifest>(MAX_MANIFEST_ENTRIES);
  const lists = createWeightedCache<readonly ResolvedAgent[]>(MAX_DEFINITION_CHARS);
  const onceManifest = createOnce<SnapshotManifest | undefined>();

  const toResolved = (orgId: string, live: LiveAgent, version: LoadedVersion): ResolvedAgent => ({
    orgId,
    repositoryId: live.repositoryId,
    commit: live.commit,
    agentId: live.agentId,
    versionId: live.versionId,
    definition: version.definition,
  });

  const resolveLive = async (orgId: string, live: LiveAgent): Promise<Result<ResolvedAgent>> => {
    const known = versions.peek(orgId, live.versionId);
    const version = known ?? (await versions.load(orgId, [live.versionId])).get(live.versionId);
    if (version === undefined) {
      // Its repository was removed since the name was looked up.
      names.invalidate(orgId);
      return err(notFound(live.name, []));
    }
    return ok(toResolved(orgId, live, version));
  };

  const manifestOf = async (at: PinnedSnapshot): Promise<SnapshotManifest | undefined> => {
    const key = `${at.orgId}\n${at.repositoryId}\n${at.commit}`;
    const known = manifests.get(key);
    if (known !== undefined) return known;
    const loaded = await onceManifest(key, () => loadManifest(deps.db, at));
    if (loaded !== undefined) manifests.set(key, loaded, Object.keys(loaded.agents).length + loaded.aliases.length + 1);
    return loaded;
  };

  return {
    resolveExposed: async ({ orgId, name }) => {
      const live = names.peek(orgId) ?? (await names.load(orgId));
      const agent = live.byName.get(name);
      return agent === undefined ? err(notFound(name, live.names)) : resolveLive(orgId, agent);
    },
    resolvePinned: async (input) => {
      const { orgId, repositoryId, commit } = input;
      const manifest = await manifestOf(input);
      const wanted = "path" in input ? input.path : input.name;
      if (manifest === undefined) return err(notFound(wanted, []));
      const target = "path" in input ? ({ kind: "path", path: wanted } as const) : findInManifest(manifest, wanted);
      if (target?.kind === "external") return err(external(wanted, target.url));
      const versionId =
        target !== undefined && Object.hasOwn(manifest.agents, target.path) ? manifest.agents[target.path] : undefined;
      if (versionId === undefined) {
        const known = [...Object.keys(manifest.agents).map(nameOfPath), ...manifest.aliases.map(({ name }) => name)];
        return err(notFound(wanted, known));
      }
      const version = versions.peek(orgId, versionId) ?? (await versions.load(orgId, [versionId])).get(versionId);
      if (version === undefined) return err(notFound(wanted, []));
      return ok({ orgId, repositoryId, commit, agentId: version.agentId, versionId, definition: version.definition });
    },
    listPinned: async ({ limit, ...at }) => {
      const { orgId, repositoryId, commit } = at;
      const key = [orgId, repositoryId, commit, limit].join("\n");
      const known = lists.get(key);
      if (known !== undefined) return known;
      const manifest = await manifestOf(at);
      if (manifest === undefined) return [];
      const ids = Object.entries(manifest.agents)
        .toSorted(([a], [b]) => (a < b ? -1 : 1))
        .slice(0, limit)
        .map(([, versionId]) => versionId);
      const loaded = await versions.load(orgId, ids);
      const list = ids.flatMap((versionId) => {
        const version = loaded.get(versionId);
        if (version === undefined) return [];
        return [{ orgId, repositoryId, commit, agentId: version.agentId, versionId, definition: version.definition }];
      });
      const chars = list.reduce((sum, { definition }) => sum + charsOf(definition), ENTRY_CHARS);
      lists.set(key, list, chars);
      return list;
    },
    listOutsideAliases: async (at) =>
      ((await manifestOf(at))?.aliases ?? []).flatMap(({ name, target }) =>
        target.kind === "external" ? [{ name, url: target.url }] : [],
      ),
    listExposed: async (orgId) => {
      const { agents } = names.peek(orgId) ?? (await names.load(orgId));
      const loaded = await versions.load(
        orgId,
        agents.map(({ versionId }) => versionId),
      );
      return agents.flatMap((live) => {
        const version = loaded.get(live.versionId);
        return version === undefined ? [] : [toResolved(orgId, live, version)];
      });
    },
    defaultAgent: async (orgId) => {
      const { defaultAgent } = names.peek(orgId) ?? (await names.load(orgId));
      if (defaultAgent !== undefined) return resolveLive(orgId, defaultAgent);
      return err(userError("agent_not_found", "This organization has no default agent: name one by its path."));
    },
    invalidate: names.invalidate,
  };
};
