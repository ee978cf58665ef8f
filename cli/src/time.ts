import { z } from "zod";

const UNITS = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["min", 60_000],
  ["s", 1_000],
] as const;

/** A span as people say it: `3 min`, `2 d`. */
export const span = (ms: number): string => {
  for (const [unit, unitMs] of UNITS) if (ms >= unitMs) return `${Math.floor(ms / unitMs)} ${unit}`;
  return `${Math.max(0, Math.round(ms))} ms`;
};

/** How long ago, or how far ahead, a moment is; undefined for none. */
export const fromNow = (at: Date | null | undefined, nowMs: number): string | undefined => {
  if (at === null || at === undefined) return undefined;
  const ms = nowMs - at.getTime();
  if (Math.abs(ms) < 1_000) return "now";
  return ms > 0 ? `${span(ms)} ago` : `in ${span(-ms)}`;
};

/** How long something took, or has taken so far. */
export const durationOf = (it: { readonly createdAt: Date; readonly finishedAt: Date | null }, nowMs: number): string =>
  span((it.finishedAt?.getTime() ?? nowMs) - it.createdAt.getTime());

const SPAN = /^(\d{1,6})(s|m|h|d|w)$/;
const SPAN_MS: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };

/** A moment in the future, given as a span (`90d`, `12h`) or as a date (`2027-01-31`, with or without a time). */
export const futureMoment = (nowMs: number) =>
  z.string().transform((text, context) => {
    const match = SPAN.exec(text);
    const ms = match === null ? Date.parse(text) : nowMs + Number(match[1]) * (SPAN_MS[match[2] ?? ""] ?? 0);
    const isDate = match !== null || /^\d{4}-\d\d-\d\d/.test(text);
    if (!isDate || !Number.isFinite(ms) || ms <= nowMs) {
      context.addIssue({ code: "custom", message: "must be a time ahead such as 90d, 12h or 2027-01-31" });
      return z.NEVER;
    }
    return new Date(ms);
  });

/** A span in whole seconds: `60s`, `5m`, `12h`. */
export const seconds = z
  .string()
  .regex(SPAN, "must be a span such as 60s, 5m or 12h")
  .transform((text) => {
    const match = SPAN.exec(text);
    return (Number(match?.[1] ?? 0) * (SPAN_MS[match?.[2] ?? ""] ?? 0)) / 1_000;
  });
