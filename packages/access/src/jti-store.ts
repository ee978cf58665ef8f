import type { Db } from "@shaman/db";
import type { Clock } from "@shaman/kernel";

export type JtiUse = { readonly jti: string; readonly expiresAtMs: number };

/** Marks a token id as used, once over all instances. Rejects when the store cannot be reached. */
export type UseJti = (use: JtiUse) => Promise<"fresh" | "used">;

/** One statement, no waiting for the disk: a token id that a crash loses belongs to a request that the crash ended too. */
const INSERT = `INSERT INTO used_jti (jti, expires_at)
  SELECT $1, to_timestamp($2::double precision / 1000)
  WHERE set_config('synchronous_commit', 'off', true) = 'off'
  ON CONFLICT DO NOTHING`;

/** Used token ids in PostgreSQL, in an unlogged table. */
export const createPostgresJtiStore =
  (deps: { readonly db: Pick<Db, "plain"> }): UseJti =>
  async ({ jti, expiresAtMs }) => {
    const { rowCount } = await deps.db.plain({ name: "use_jti", text: INSERT, values: [jti, expiresAtMs] });
    return rowCount === 1 ? "fresh" : "used";
  };

export type DeleteExpiredJtisInput = { readonly batchRows?: number; readonly signal?: AbortSignal };

const DEFAULT_BATCH_ROWS = 5_000;

/** Removes token ids that could not be used any more anyway, some at a time, by one instance at a time. Returns how many. */
export const deleteExpiredJtis = async (
  deps: { readonly db: Pick<Db, "plain">; readonly clock: Clock },
  input: DeleteExpiredJtisInput = {},
): Promise<number> => {
  const batchRows = input.batchRows ?? DEFAULT_BATCH_ROWS;
  let deleted = 0;
  while (input.signal?.aborted !== true) {
    const { rowCount } = await deps.db.plain({
      name: "delete_expired_jtis",
      text: `DELETE FROM used_jti WHERE jti IN (SELECT jti FROM used_jti
        WHERE expires_at < to_timestamp($1::double precision / 1000)
          AND (SELECT pg_try_advisory_xact_lock(hashtextextended('delete expired jtis', 0)))
        ORDER BY expires_at LIMIT $2)`,
      values: [deps.clock.now(), batchRows],
    });
    deleted += rowCount;
    if (rowCount < batchRows) break;
  }
  return deleted;
};

/** The one command of Redis this store needs; an ioredis client has it. */
export type JtiRedis = {
  readonly set: (key: string, value: string, expiry: "EX", seconds: number, only: "NX") => Promise<"OK" | null>;
};

/** Used token ids in Redis, which forgets them by itself. */
export const createRedisJtiStore =
  (deps: { readonly redis: JtiRedis; readonly clock: Clock }): UseJti =>
  async ({ jti, expiresAtMs }) => {
    const seconds = Math.max(1, Math.ceil((expiresAtMs - deps.clock.now()) / 1000));
    const reply = await deps.redis.set(`shaman:jti:${jti}`, "1", "EX", seconds, "NX");
    return reply === "OK" ? "fresh" : "used";
  };
