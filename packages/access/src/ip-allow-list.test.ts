import { describe, expect, test } from "vitest";
import { createIpAllowList, isIpRange } from "./ip-allow-list.ts";

describe("an IP allow list", () => {
  const list = createIpAllowList(["10.1.0.0/16", "192.0.2.7", "2001:db8::/32", "fe80::1"]);

  test.each(["10.1.0.0", "10.1.255.255", "192.0.2.7", "2001:db8::1", "2001:db8:ffff::", "fe80::1", "::ffff:10.1.2.3"])(
    "lets %s in",
    (ip) => expect(list.allows(ip)).toBe(true),
  );

  test.each(["10.2.0.0", "192.0.2.8", "2001:db9::1", "fe80::2", "::ffff:10.2.0.1", "", "10.1.0.0/16", "nonsense"])(
    "keeps %s out",
    (ip) => expect(list.allows(ip)).toBe(false),
  );

  test("keeps a caller out whose address is not known", () => {
    expect(list.allows(undefined)).toBe(false);
  });

  test("an entry that cannot be read allows nobody", () => {
    expect(createIpAllowList(["10.0.0.0/33", "all"]).allows("10.0.0.1")).toBe(false);
  });

  test.each(["0.0.0.0/0", "::/0", "10.0.0.0/8", "10.0.0.1", "2001:db8::/48"])("%s is a range", (entry) =>
    expect(isIpRange(entry)).toBe(true),
  );

  test.each([
    "10.0.0.0/33",
    "::/129",
    "10.0.0/8",
    "10.0.0.0/8/8",
    "10.0.0.0/-1",
    "10.0.0.0/",
    "fe80::1%eth0",
    "host",
    "",
  ])("%s is no range", (entry) => expect(isIpRange(entry)).toBe(false));
});
