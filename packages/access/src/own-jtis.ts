import type { Clock } from "@shaman/kernel";
import { MAX_CLOCK_SKEW_SECONDS, NONCE_LIFETIME_SECONDS } from "./token-context.ts";

/** As long as a token that names a server may come to it. */
const KEPT_MS = (NONCE_LIFETIME_SECONDS + 2 * MAX_CLOCK_SKEW_SECONDS) * 1_000;

/**
 * The ids of tokens that name this server, which nobody else takes. Memory holds those of the last `KEPT_MS`, and of
 * as long again at most.
 */
export const createOwnJtis = (clock: Clock): ((jti: string) => "fresh" | "used") => {
  let recent = new Set<string>();
  let older = new Set<string>();
  let sinceMs = clock.now();
  return (jti) => {
    const nowMs = clock.now();
    if (nowMs - sinceMs >= KEPT_MS) {
      older = nowMs - sinceMs >= 2 * KEPT_MS ? new Set() : recent;
      recent = new Set();
      sinceMs = nowMs;
    }
    if (recent.has(jti) || older.has(jti)) return "used";
    recent.add(jti);
    return "fresh";
  };
};
