/** What a process remembers of rows, and forgets when another process says that they changed. */
export type CacheChange = {
  readonly what: "key" | "agents" | "organization";
  readonly orgId: string;
  readonly id: string;
};

/** The announcement as one short text: `key:org_…:key_…`. */
export const formatCacheChange = ({ what, orgId, id }: CacheChange): string => `${what}:${orgId}:${id}`;

/** Reads an announcement; undefined for what this version does not know. */
export const parseCacheChange = (text: string): CacheChange | undefined => {
  const [what, orgId, id, ...rest] = text.split(":");
  if (orgId === undefined || id === undefined || rest.length > 0) return undefined;
  return what === "key" || what === "agents" || what === "organization" ? { what, orgId, id } : undefined;
};
