import { describe, expect, test } from "vitest";
import { fromNow, futureMoment, span } from "./time.ts";

const NOW = Date.parse("2026-11-23T12:00:00Z");

describe("times", () => {
  test.each([
    [0, "0 ms"],
    [999, "999 ms"],
    [59_999, "59 s"],
    [3_599_000, "59 min"],
    [86_399_000, "23 h"],
    [10 * 86_400_000, "10 d"],
  ])("%i ms are said as %s", (ms, said) => expect(span(ms)).toBe(said));

  test("are said from now, both ways", () => {
    expect(fromNow(new Date(NOW - 180_000), NOW)).toBe("3 min ago");
    expect(fromNow(new Date(NOW + 180_000), NOW)).toBe("in 3 min");
    expect(fromNow(new Date(NOW), NOW)).toBe("now");
    expect(fromNow(null, NOW)).toBeUndefined();
  });

  test.each([
    ["90d", NOW + 90 * 86_400_000],
    ["12h", NOW + 12 * 3_600_000],
    ["30s", NOW + 30_000],
    ["2027-01-31", Date.parse("2027-01-31")],
    ["2027-01-31T10:00:00Z", Date.parse("2027-01-31T10:00:00Z")],
  ])("%s lies ahead", (text, at) => expect(futureMoment(NOW).parse(text).getTime()).toBe(at));

  test.each(["2001-01-01", "0d", "soon", "90", "-5d", "1e3d", "", "2027-13-01"])("%j is refused", (text) =>
    expect(futureMoment(NOW).safeParse(text).success).toBe(false),
  );
});
