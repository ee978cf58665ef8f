const WHAT = ["key", "agents", "organization"] as const;

/** What a process remembers of rows, and forgets when it hears that they changed. */
export type CacheChange = {
  readonly what: (typeof WHAT)[number];
  readonly orgId: string;
  readonly id: string;
};

/** The announcement as one short text: `key:org_…:key_…`. */
export const formatCacheChange = ({ what, orgId, id }: CacheChange): string => `${what}:${orgId}:${id}`;

/** Whether this version knows what such a change is about; a newer one may remember more. */
export const isCacheChange = (change: { readonly what: string } & Omit<CacheChange, "what">): change is CacheChange =>
  WHAT.some((what) => what === change.what);

/** Reads an announcement; undefined for what this version does not know. */
export const parseCacheChange = (text: string): CacheChange | undefined => {
  const [what = "", orgId, id, ...rest] = text.split(":");
  if (orgId === undefined || id === undefined || rest.length > 0) return undefined;
  const change = { what, orgId, id };
  return isCacheChange(change) ? change : undefined;
};
