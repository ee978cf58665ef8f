import type { Db } from "@shaman/db";
import { CHAIN_START, chainHash, sealedRowSql, type SealedRow } from "./chain.ts";

export type AuditHead = { readonly position: number; readonly hash: string };

export type VerifyAuditInput = {
  readonly orgId: string;
  /** A head that an earlier report or the worker's log gave: the chain must still go through it. */
  readonly expected?: AuditHead;
  readonly batchRows?: number;
};

/**
 * `changed`: the row or its seal is not what was sealed. `removed`: the seal is there, the row is not.
 * `seal_missing`: a link of the chain was taken out. `inserted`: a row appeared below what is sealed already.
 * `shortened`: the chain ends before the expected head. `rewritten`: it no longer goes through the expected head.
 */
export type AuditProblemKind = "changed" | "removed" | "seal_missing" | "inserted" | "shortened" | "rewritten";

export type AuditProblem = {
  readonly kind: AuditProblemKind;
  /** Place in the chain, where the problem has one. */
  readonly position?: number;
  readonly auditId?: number;
  readonly message: string;
};

export type AuditReport = {
  readonly orgId: string;
  /** No problem was found. Rows that wait for the sealer are no problem; see `unsealed`. */
  readonly ok: boolean;
  readonly sealed: number;
  /** Rows not sealed yet; more than 10 seconds old only when no worker runs. */
  readonly unsealed: number;
  readonly oldestUnsealedAt: string | null;
  /** Null when nothing is sealed. Keep it elsewhere and give it as `expected` next time. */
  readonly head: AuditHead | null;
  /** All of them counted, the first 100 listed. */
  readonly problemCount: number;
  readonly problems: readonly AuditProblem[];
};

const DEFAULT_BATCH_ROWS = 2_000;
const PROBLEMS_LISTED = 100;

/**
 * Walks an organization's whole chain and compares it with the rows. What the database alone cannot show is a chain
 * whose end was cut off together with its rows, or one recomputed by somebody who may write everything: for that,
 * give a head from outside as `expected`.
 */
export const verifyAudit = async (deps: { readonly db: Db }, input: VerifyAuditInput): Promise<AuditReport> => {
  const problems = createProblemList();
  const walked = await walkChain(deps, input, problems.add);
  compareWithExpected(walked, input.expected, problems.add);
  const open = await lookAtUnsealed(deps, input.orgId, problems.add);
  return {
    orgId: input.orgId,
    ok: problems.count() === 0,
    sealed: walked.sealed,
    unsealed: open.unsealed,
    oldestUnsealedAt: open.oldestUnsealedAt,
    head: walked.head,
    problemCount: problems.count(),
    problems: problems.first(),
  };
};

type Report = (problem: AuditProblem) => void;

const createProblemList = () => {
  const listed: AuditProblem[] = [];
  let total = 0;
  return {
    add: (problem: AuditProblem): void => {
      total += 1;
      if (listed.length < PROBLEMS_LISTED) listed.push(problem);
    },
    count: (): number => total,
    first: (): readonly AuditProblem[] => listed,
  };
};

type Link = { position: number; audit_id: number; hash: Buffer; row: SealedRow | null };

type Walked = { readonly sealed: number; readonly head: AuditHead | null; readonly expectedHash: string | null };

const walkChain = async (deps: { readonly db: Db }, input: VerifyAuditInput, report: Report): Promise<Walked> => {
  const batchRows = input.batchRows ?? DEFAULT_BATCH_ROWS;
  let previous: Buffer = CHAIN_START;
  let position = 0;
  let sealed = 0;
  let expectedHash: string | null = null;
  for (;;) {
    const links = await readLinks(deps, { orgId: input.orgId, after: position, batchRows });
    for (const link of links) {
      const problem = checkLink(link, { previous, position });
      if (problem !== undefined) report(problem);
      // Going on from the stored link finds later problems as well, instead of calling everything after one broken.
      previous = link.hash;
      position = link.position;
      sealed += 1;
      if (position === input.expected?.position) expectedHash = link.hash.toString("hex");
    }
    if (links.length < batchRows) break;
  }
  return { sealed, head: sealed === 0 ? null : { position, hash: previous.toString("hex") }, expectedHash };
};

const readLinks = (
  deps: { readonly db: Db },
  input: { orgId: string; after: number; batchRows: number },
): Promise<readonly Link[]> =>
  deps.db.withOrg(input.orgId, async (tx) => {
    const { rows } = await tx.query<Link>({
      name: "audit_verify",
      text: `SELECT s.position, s.audit_id, s.hash, CASE WHEN a.id IS NULL THEN NULL ELSE ${sealedRowSql("a")} END AS row
        FROM audit_seal s LEFT JOIN audit_log a ON a.org_id = s.org_id AND a.id = s.audit_id
        WHERE s.org_id = $1 AND s.position > $2 ORDER BY s.position LIMIT $3`,
      values: [input.orgId, input.after, input.batchRows],
    });
    return rows;
  });

const checkLink = (link: Link, before: { previous: Buffer; position: number }): AuditProblem | undefined => {
  const where = { position: link.position, auditId: link.audit_id };
  if (link.row === null) {
    return { kind: "removed", ...where, message: `Audit row ${link.audit_id} was sealed but is gone` };
  }
  const missing = link.position - before.position - 1;
  if (missing > 0) {
    const message = `${missing} link(s) of the chain before place ${link.position} are gone`;
    return { kind: "seal_missing", ...where, message };
  }
  if (!chainHash(before.previous, link.row).equals(link.hash)) {
    const message = `Audit row ${link.audit_id}, or its seal, is not what was sealed`;
    return { kind: "changed", ...where, message };
  }
  return undefined;
};

const compareWithExpected = (walked: Walked, expected: AuditHead | undefined, report: Report): void => {
  if (expected === undefined) return;
  const end = walked.head?.position ?? 0;
  if (end < expected.position) {
    const message = `The chain ends at place ${end}, but was ${expected.position} long before`;
    report({ kind: "shortened", position: end, message });
    return;
  }
  if (walked.expectedHash !== expected.hash) {
    const message = `Place ${expected.position} of the chain is not what it was before`;
    report({ kind: "rewritten", position: expected.position, message });
  }
};

type Open = { readonly unsealed: number; readonly oldestUnsealedAt: string | null };

/** Rows without a seal either wait for the sealer or were put in below it, where it never looks again. */
const lookAtUnsealed = (deps: { readonly db: Db }, orgId: string, report: Report): Promise<Open> =>
  deps.db.withOrg(orgId, async (tx) => {
    const { rows } = await tx.query<{ id: number; below: boolean; at: Date; total: number; oldest: Date | null }>({
      name: "audit_verify_unsealed",
      text: `WITH last AS (SELECT xid, audit_id FROM audit_seal WHERE org_id = $1 ORDER BY position DESC LIMIT 1),
        open AS (SELECT a.id, a.at, coalesce((a.xid, a.id) < (last.xid, last.audit_id)
            AND last.xid < pg_snapshot_xmax(pg_current_snapshot()), false) AS below
          FROM audit_log a LEFT JOIN last ON true
          WHERE a.org_id = $1
            AND NOT EXISTS (SELECT FROM audit_seal s WHERE s.org_id = a.org_id AND s.audit_id = a.id))
        SELECT id, at, below, count(*) FILTER (WHERE NOT below) OVER () AS total,
          min(at) FILTER (WHERE NOT below) OVER () AS oldest
        FROM open ORDER BY below DESC, id LIMIT $2`,
      values: [orgId, PROBLEMS_LISTED],
    });
    for (const row of rows) {
      if (!row.below) break;
      const message = `Audit row ${row.id} was put in below what is sealed`;
      report({ kind: "inserted", auditId: row.id, message });
    }
    const first = rows[0];
    return { unsealed: first?.total ?? 0, oldestUnsealedAt: first?.oldest?.toISOString() ?? null };
  });
