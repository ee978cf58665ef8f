import type { Db } from "@shaman/db";

export type KeyUse = { readonly orgId: string; readonly keyId: string; readonly atMs: number };

export type LastUsed = {
  readonly note: (use: KeyUse) => void;
  /** Writes what was noted, one statement an organization; what cannot be written is kept for the next time. */
  readonly flush: () => Promise<void>;
};

/** Collects when keys were used, so that a call touches no row of its key. */
export const createLastUsed = (deps: { readonly db: Db }): LastUsed => {
  let uses = new Map<string, KeyUse>();

  const note = (use: KeyUse): void => {
    const known = uses.get(use.keyId);
    if (known === undefined || known.atMs < use.atMs) uses.set(use.keyId, use);
  };

  return {
    note,
    flush: async () => {
      const taken = uses;
      uses = new Map();
      const failures: unknown[] = [];
      for (const [orgId, ofOrg] of Map.groupBy(taken.values(), (use) => use.orgId)) {
        try {
          await write(deps.db, orgId, ofOrg);
        } catch (error) {
          for (const use of ofOrg) note(use);
          failures.push(error);
        }
      }
      if (failures.length > 0) throw new AggregateError(failures, "Could not write when keys were last used");
    },
  };
};

/** Rows that another instance is writing right now are skipped: its time is as good as ours, and nobody waits. */
const write = (db: Db, orgId: string, uses: readonly KeyUse[]): Promise<unknown> =>
  db.batch(
    orgId,
    [
      {
        name: "api_key_last_used",
        text: `WITH used AS (SELECT id, to_timestamp(at::double precision / 1000) AS at
          FROM unnest($2::text[], $3::bigint[]) AS used (id, at)),
        free AS (SELECT k.id FROM api_key k JOIN used USING (id) WHERE k.org_id = $1 FOR NO KEY UPDATE OF k SKIP LOCKED)
        UPDATE api_key k SET last_used_at = greatest(k.last_used_at, used.at)
        FROM used JOIN free USING (id) WHERE k.org_id = $1 AND k.id = used.id`,
        values: [orgId, uses.map((use) => use.keyId), uses.map((use) => use.atMs)],
      },
    ],
    // Nobody waits for it, and the next use says it again.
    { durable: "later" },
  );
