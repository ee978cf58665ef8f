/** An action on everything at and below a path; the path ends in a slash and a star. */
export type Grant = { readonly action: string; readonly resource: string };

export type Can = (action: string, resource: string) => boolean;

const MAX_RESOURCE_CHARS = 255;
/** No sign that a Permiso server over SQL would take for a pattern, and no way up. */
const RESOURCE = /^\/(?:[A-Za-z0-9~:.-]+\/)*\*$/;

/**
 * Whether a grant on this path means the same here and in a Permiso server of either database: it must end in a slash
 * and a star, and hold no other sign that one of them reads as a pattern.
 */
export const isGrantResource = (resource: string): boolean =>
  resource.length <= MAX_RESOURCE_CHARS && RESOURCE.test(resource) && !resource.includes("..");

/** Text from people as one segment of a resource path: every sign but letters, digits and `-` becomes `~` and its code. */
export const resourceSegment = (text: string): string =>
  text.replace(/[^A-Za-z0-9-]/gu, (sign) =>
    [...Buffer.from(sign)].map((byte) => `~${byte.toString(16).padStart(2, "0")}`).join(""),
  );

/** The path of an agent, as asked for: `/agents/Name/`. */
export const agentResource = (name: string): string => `/agents/${resourceSegment(name)}/`;

/** What a grant on one agent names, or on all of them with `*`. */
export const agentGrantResource = (name: string): string => (name === "*" ? "/agents/*" : `${agentResource(name)}*`);

/** The agent's name behind such a grant, `*` for all, undefined for grants on something else. */
export const agentOfGrantResource = (resource: string): string | undefined => {
  if (resource === "/agents/*") return "*";
  const match = /^\/agents\/([A-Za-z0-9~-]+)\/\*$/.exec(resource);
  if (match?.[1] === undefined) return undefined;
  return match[1].replace(/(?:~[0-9a-f]{2})+/g, (codes) => Buffer.from(codes.replaceAll("~", ""), "hex").toString());
};

/**
 * The question "may it?" over a principal's grants: only what is granted, nothing denies. A resource is asked for as a
 * path, with or without its last slash; the time it takes depends on the path's depth, not on the number of grants.
 */
export const createPermissionCheck = (grants: readonly Grant[]): Can => {
  const pathsByAction = new Map<string, Set<string>>();
  for (const grant of grants) {
    if (!isGrantResource(grant.resource)) continue;
    const paths = pathsByAction.get(grant.action) ?? new Set<string>();
    paths.add(grant.resource.slice(0, -1));
    pathsByAction.set(grant.action, paths);
  }
  const every = pathsByAction.get("*");
  return (action, resource) => {
    const asked = resource.endsWith("/") ? resource : `${resource}/`;
    const own = action === "*" ? undefined : pathsByAction.get(action);
    for (let end = asked.indexOf("/"); end !== -1; end = asked.indexOf("/", end + 1)) {
      const path = asked.slice(0, end + 1);
      if (own?.has(path) === true || every?.has(path) === true) return true;
    }
    return false;
  };
};
