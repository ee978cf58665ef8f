import { BlockList, isIP } from "node:net";

export type IpAllowList = { readonly allows: (ip: string | undefined) => boolean };

const parseEntry = (entry: string): { address: string; bits: number; family: "ipv4" | "ipv6" } | undefined => {
  const [address = "", bitsText, ...rest] = entry.split("/");
  const version = isIP(address);
  if (version === 0 || address.includes("%") || rest.length > 0) return undefined;
  const width = version === 4 ? 32 : 128;
  if (bitsText !== undefined && !/^\d{1,3}$/.test(bitsText)) return undefined;
  const bits = bitsText === undefined ? width : Number(bitsText);
  return bits > width ? undefined : { address, bits, family: version === 4 ? "ipv4" : "ipv6" };
};

/** Whether `entry` is an IPv4 or IPv6 address or a CIDR range of them. */
export const isIpRange = (entry: string): boolean => parseEntry(entry) !== undefined;

/**
 * A list of addresses and CIDR ranges. An IPv4 caller matches its IPv4 range in the mapped form (`::ffff:10.0.0.1`)
 * too, which is how a dual-stack socket shows it. An entry that cannot be read allows nobody.
 */
export const createIpAllowList = (entries: readonly string[]): IpAllowList => {
  const list = new BlockList();
  for (const entry of entries) {
    const parsed = parseEntry(entry);
    if (parsed !== undefined) list.addSubnet(parsed.address, parsed.bits, parsed.family);
  }
  return {
    allows: (ip) => {
      if (ip === undefined) return false;
      const version = isIP(ip);
      if (version === 0) return false;
      return list.check(ip, version === 4 ? "ipv4" : "ipv6");
    },
  };
};
