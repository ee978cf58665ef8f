import type { Db } from "@shaman/db";
import { AppError } from "@shaman/kernel";
import { z } from "zod";

// The run's own repository has been pinned since its intake. Of several that pin another one at the same time, one writes
// the row and the others wait for it, which is why it is read by a statement of its own: that sees what they waited for.
const PIN = `
INSERT INTO run_pin (org_id, run_id, repository_id, commit)
SELECT $1, $2, $5, CASE WHEN repository_id = $5 THEN commit ELSE $6 END FROM run
WHERE org_id = $1 AND id = $2 AND lease_epoch = $3 AND worker = $4 AND lease_until > now()
ON CONFLICT (org_id, run_id, repository_id) DO NOTHING`;

const PINNED = `SELECT commit FROM run_pin WHERE org_id = $1 AND run_id = $2 AND repository_id = $3`;

const pinned = z.object({ commit: z.string() });

/**
 * The commit at which this run takes a repository, for all its calls into it: the one it was pinned at first, which is
 * this one if nobody was before. Throws `lease_lost` when nothing is pinned and the lease is not ours any more.
 */
export const pinRepository = async (
  db: Db,
  at: {
    readonly orgId: string;
    readonly runId: string;
    readonly leaseEpoch: number;
    readonly leaseHolder: string;
    readonly repositoryId: string;
    readonly commit: string;
  },
): Promise<string> => {
  const { orgId, runId, leaseEpoch, leaseHolder, repositoryId, commit } = at;
  const [, found] = await db.batch(orgId, [
    { name: "pin_repository", text: PIN, values: [orgId, runId, leaseEpoch, leaseHolder, repositoryId, commit] },
    { name: "find_pin", text: PINNED, values: [orgId, runId, repositoryId] },
  ]);
  const row = found?.rows[0];
  if (row !== undefined) return pinned.parse(row).commit;
  throw new AppError({
    code: "lease_lost",
    kind: "operational",
    message: `The lease on ${runId} is no longer ours: no repository can be pinned for it`,
  });
};
