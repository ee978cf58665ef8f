import ipaddr from "ipaddr.js";

/** What an address is to us: reachable by anyone, this machine, or somebody's inner network. */
export type AddressKind = "public" | "loopback" | "forbidden";

/** 2000::/3 is all that IANA has given out as global unicast; the rest of `unicast` is unassigned. */
const GLOBAL_V6 = ipaddr.IPv6.parseCIDR("2000::/3");

/** Public by their numbers, yet answered by a cloud's own host. */
const PLATFORM_ADDRESSES: ReadonlySet<string> = new Set(["168.63.129.16"]);

/** The address inside a URL's host, without the brackets of IPv6; undefined for a name. */
export const addressLiteral = (host: string): string | undefined => {
  const bare = host.startsWith("[") && host.endsWith("]") ? host.slice(1, -1) : host;
  return ipaddr.isValid(bare) ? bare : undefined;
};

/**
 * Classifies an address. IPv4 inside IPv6 (mapped or compatible) counts as the IPv4 address; NAT64, 6to4, Teredo and
 * every other special range is forbidden, because it may lead anywhere.
 */
export const addressKind = (address: string): AddressKind => {
  // A zone (`fe80::1%eth0`) names an interface of this machine.
  if (address.includes("%") || !ipaddr.isValid(address)) return "forbidden";
  const parsed = ipaddr.process(address);
  const range = parsed.range();
  if (range === "loopback") return "loopback";
  if (range !== "unicast") return "forbidden";
  if (parsed instanceof ipaddr.IPv6) return parsed.match(GLOBAL_V6) ? "public" : "forbidden";
  return PLATFORM_ADDRESSES.has(parsed.toString()) ? "forbidden" : "public";
};
