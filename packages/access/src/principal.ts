import type { Can } from "./grants.ts";

/** Who acts, after authentication, inside one organization. */
export type Principal = {
  readonly orgId: string;
  /** What owns contexts, tasks and idempotency: `user:user_…`, `key:key_…`, `operator:name`. Rotating a key keeps it. */
  readonly id: string;
  readonly apiKeyId: string | null;
  readonly userId?: string;
  /** 1 is served first, 5 last; absent when the key says nothing. */
  readonly priority?: number;
  /** Null: the organization's default. 0: no limit. */
  readonly ratePerSecond: number | null;
  /** Whether what it may spend is limited, beside its organization. */
  readonly spendIsLimited?: boolean;
  readonly can: Can;
};

/**
 * The operator at the machine's own command line, who has the database's address and so needs no grant. Never make one
 * from anything that came over a network.
 */
export const createOperatorPrincipal = (input: { readonly orgId: string; readonly name: string }): Principal => ({
  orgId: input.orgId,
  id: `operator:${input.name}`,
  apiKeyId: null,
  ratePerSecond: 0,
  can: () => true,
});
