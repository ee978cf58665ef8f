/** How long an answer may be used again (RFC 9111), as a private cache sees it. */
export type Freshness = {
  readonly expiresAtMs: number;
  /** Whether it may still be used when the server cannot be reached after that (§4.2.4). */
  readonly mayBeStale: boolean;
};

/** Of a card without caching headers (A2A 1.0.1 §8.6.2 leaves it to the client). */
const DEFAULT_MS = 5 * 60_000;
/** A card that moves or loses its interface should not mislead for longer, whatever it says. */
const MAX_MS = 24 * 60 * 60_000;

const directivesOf = (header: string): ReadonlyMap<string, string> =>
  new Map(
    header
      .toLowerCase()
      .split(",")
      .map((part) => {
        const [name = "", value = ""] = part.split("=");
        return [name.trim(), value.trim().replaceAll('"', "")];
      }),
  );

const secondsOf = (text: string | null | undefined): number | undefined =>
  text !== null && text !== undefined && /^\d{1,12}$/.test(text.trim()) ? Number(text) : undefined;

const lifetimeMs = (headers: Headers, directives: ReadonlyMap<string, string>, nowMs: number): number => {
  if (directives.has("no-store") || directives.has("no-cache")) return 0;
  const maxAge = directives.get("max-age");
  // An unreadable lifetime counts as none (§4.2.1).
  if (maxAge !== undefined) return (secondsOf(maxAge) ?? 0) * 1_000;
  const expires = headers.get("expires");
  if (expires === null) return DEFAULT_MS;
  const dateMs = Date.parse(headers.get("date") ?? "");
  const fromMs = Number.isNaN(dateMs) ? nowMs : dateMs;
  const untilMs = Date.parse(expires);
  return Number.isNaN(untilMs) ? 0 : Math.max(0, untilMs - fromMs);
};

/** Reads Cache-Control, Expires, Date and Age of an answer that arrived at `nowMs`. */
export const freshnessOf = (headers: Headers, nowMs: number): Freshness => {
  const directives = directivesOf(headers.get("cache-control") ?? "");
  const ageMs = (secondsOf(headers.get("age")) ?? 0) * 1_000;
  const leftMs = Math.min(lifetimeMs(headers, directives, nowMs), MAX_MS) - ageMs;
  const strict = ["no-store", "no-cache", "must-revalidate"].some((name) => directives.has(name));
  return { expiresAtMs: nowMs + Math.max(0, leftMs), mayBeStale: !strict };
};
