import { expect, test } from "vitest";
import { formatCacheChange, parseCacheChange } from "./cache-change.ts";

test("a change reads back as it was announced, and anything else is passed over", () => {
  const change = { what: "key", orgId: "org_1", id: "key_1" } as const;
  expect(parseCacheChange(formatCacheChange(change))).toEqual(change);
  for (const text of ["", "key", "key:org_1", "other:org_1:x", "key:org_1:x:y"]) {
    expect(parseCacheChange(text)).toBeUndefined();
  }
});
