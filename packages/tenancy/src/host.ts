/**
 * The slug in a Host header: exactly one label before the base domain, whatever the port; undefined for any other
 * host. Letters' case and a final dot mean nothing (RFC 9110, 4.2.3; RFC 1034, 3.1).
 */
export const slugOfHost = (host: string, baseDomain: string): string | undefined => {
  const name = host
    .replace(/:\d{1,5}$/, "")
    .replace(/\.$/, "")
    .toLowerCase();
  const suffix = `.${baseDomain}`;
  if (!name.endsWith(suffix)) return undefined;
  const slug = name.slice(0, -suffix.length);
  return /^[a-z0-9-]{1,63}$/.test(slug) ? slug : undefined;
};
