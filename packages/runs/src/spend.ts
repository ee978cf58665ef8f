import type { Db } from "@shaman/db";
import { z } from "zod";
import type { LeasedRun } from "./lease.ts";

/** What a run may cost under the spend limits it falls under, and whose limit that is. */
export type Reserved = { readonly costUsd: number; readonly limit: "organization" | "key" | undefined };

const SPENT = `
SELECT coalesce(sum(cost_usd), 0)::float8 AS organization,
  coalesce(sum(cost_usd) FILTER (WHERE api_key_id = $2), 0)::float8 AS key
FROM usage WHERE org_id = $1 AND at >= date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'`;

const RESERVED = `
SELECT coalesce(sum(reserved_usd), 0)::float8 AS organization,
  coalesce(sum(reserved_usd) FILTER (WHERE api_key_id = $2), 0)::float8 AS key
FROM run WHERE org_id = $1 AND reserved_usd > 0 AND id <> $3`;

const RESERVE = `
UPDATE run SET reserved_usd = $5::numeric
WHERE org_id = $1 AND id = $2 AND lease_epoch = $3 AND worker = $4 AND lease_until > now()`;

const sums = z.object({ organization: z.number(), key: z.number() });

/**
 * Reserves what this run may still cost out of what its organization and its key have left this month (UTC). What it
 * spends is settled with each batch that records it, and what is over comes back when the lease is given back. Whoever
 * reserves for one organization does so one after the other, and only where a limit is set.
 */
export const reserveSpend = async (db: Db, run: LeasedRun, wanted: number): Promise<Reserved> => {
  const { organization, key } = run.spendLimits;
  if (organization === null && key === null) return { costUsd: wanted, limit: undefined };
  return db.withOrg(run.orgId, async (tx) => {
    await tx.query({ text: "SELECT pg_advisory_xact_lock(hashtextextended('spend ' || $1, 0))", values: [run.orgId] });
    const spent = sums.parse((await tx.query({ text: SPENT, values: [run.orgId, run.apiKeyId] })).rows[0]);
    const held = sums.parse((await tx.query({ text: RESERVED, values: [run.orgId, run.apiKeyId, run.runId] })).rows[0]);
    const left = {
      organization: (organization ?? Infinity) - spent.organization - held.organization,
      key: (key ?? Infinity) - spent.key - held.key,
    };
    const available = Math.min(left.organization, left.key);
    const costUsd = Math.max(0, Math.min(wanted, available));
    await tx.query({ text: RESERVE, values: [run.orgId, run.runId, run.epoch, run.holder, costUsd.toFixed(8)] });
    if (available >= wanted) return { costUsd, limit: undefined };
    return { costUsd, limit: left.key < left.organization ? "key" : "organization" };
  });
};
