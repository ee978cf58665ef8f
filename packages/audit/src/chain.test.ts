import { describe, expect, test } from "vitest";
import { CHAIN_START, chainHash, SEALED_COLUMNS } from "./chain.ts";

const row = (...values: (string | null)[]): (string | null)[] =>
  SEALED_COLUMNS.map((_, index) => values[index] ?? null);

describe("the audit chain", () => {
  test("gives the same link for the same row after the same link", () => {
    expect(chainHash(CHAIN_START, row("org_a", "1")).equals(chainHash(CHAIN_START, row("org_a", "1")))).toBe(true);
  });

  test("gives another link when any column differs", () => {
    const base = SEALED_COLUMNS.map((column) => `${column} value`);
    const links = SEALED_COLUMNS.map((_, changed) =>
      chainHash(
        CHAIN_START,
        base.map((value, index) => (index === changed ? `${value}!` : value)),
      ).toString("hex"),
    );
    links.push(chainHash(CHAIN_START, base).toString("hex"));
    expect(new Set(links).size).toBe(SEALED_COLUMNS.length + 1);
  });

  test("tells null from empty, and text moved to the neighbouring column", () => {
    const links = [row("", "x"), row(null, "x"), row("x", ""), row("x", null), row('","', "x")];
    expect(new Set(links.map((each) => chainHash(CHAIN_START, each).toString("hex"))).size).toBe(links.length);
  });

  test("depends on every row before it", () => {
    const first = chainHash(CHAIN_START, row("org_a", "1"));
    const other = chainHash(CHAIN_START, row("org_a", "2"));
    expect(chainHash(first, row("org_a", "3")).equals(chainHash(other, row("org_a", "3")))).toBe(false);
  });
});
