import { recordAudit } from "@shaman/audit";
import type { Db } from "@shaman/db";
import type { Origin } from "./access-deps.ts";
import { apiKeyResource } from "./access-deps.ts";

/** Why a key was refused: for metrics and the audit log, never for the caller. */
export type RefusalReason = "malformed" | "unknown" | "wrong_secret" | "revoked" | "expired" | "ip_not_allowed";

export type Refusal = {
  readonly orgId: string;
  readonly reason: RefusalReason;
  /** Set once the id belongs to a key of the organization. */
  readonly keyId?: string;
  readonly ip: string | undefined;
};

/** Something that a good key is not permitted to do. */
export type ForbiddenAct = {
  readonly orgId: string;
  readonly keyId: string;
  readonly ip: string | undefined;
  readonly action: string;
  readonly resource: string;
};

export type RefusalLog = {
  readonly note: (refusal: Refusal) => void;
  readonly noteForbidden: (act: ForbiddenAct) => void;
  readonly flush: () => Promise<void>;
};

type Counted = ForbiddenAct & { readonly reason: RefusalReason | "forbidden"; times: number };

const MAX_ROWS_A_FLUSH = 1_000;

/**
 * Audits refused uses of keys that exist, counted together and written in batches, so that a flood of refusals costs
 * neither a write each nor memory. What is no key of the organization is left to the metrics: nobody could act on it.
 */
export const createRefusalLog = (deps: { readonly db: Db; readonly origin: Origin }): RefusalLog => {
  let counted = new Map<string, Counted>();

  const count = (refused: Omit<Counted, "times">): void => {
    const name = [refused.keyId, refused.reason, refused.ip, refused.action, refused.resource].join(" ");
    const known = counted.get(name);
    if (known !== undefined) known.times += 1;
    else if (counted.size < MAX_ROWS_A_FLUSH) counted.set(name, { ...refused, times: 1 });
  };

  return {
    note: ({ keyId, ...refusal }) => {
      if (keyId === undefined) return;
      count({ ...refusal, keyId, action: "apiKey:use", resource: apiKeyResource(keyId) });
    },
    noteForbidden: (act) => count({ ...act, reason: "forbidden" }),
    flush: async () => {
      const taken = counted;
      counted = new Map();
      for (const [orgId, refusals] of Map.groupBy(taken.values(), (each) => each.orgId)) {
        await deps.db.withOrg(orgId, async (tx) => {
          for (const refusal of refusals) await recordAudit(tx, entryOf(deps.origin, refusal));
        });
      }
    },
  };
};

const entryOf = (origin: Origin, { orgId, keyId, action, resource, reason, ip, times }: Counted) => ({
  ...origin,
  orgId,
  actor: `key:${keyId}`,
  action,
  resource,
  result: "denied" as const,
  ip,
  details: { reason, times },
});
