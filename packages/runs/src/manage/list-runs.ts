import { forbidden, type Principal } from "@shaman/access";
import type { Db } from "@shaman/db";
import { err, invalidInput, ok, userError, type Result } from "@shaman/kernel";
import { z } from "zod";
import { isTerminal, RUN_STATES } from "../states.ts";
import { RUN_COLUMNS, type RunView } from "./run-view.ts";

export const listRunsInput = z.strictObject({
  agent: z.string().max(512).optional(),
  state: z.enum(RUN_STATES).optional(),
  first: z.int().min(1).max(200).default(50),
  /** Cursor of the last run seen. */
  after: z.string().max(200).optional(),
});
export type ListRunsInput = z.input<typeof listRunsInput>;

export type RunPage = {
  /** Each with the cursor to go on behind it. */
  readonly runs: readonly (RunView & { readonly cursor: string })[];
  readonly endCursor: string | null;
};

const READ = "run:read";
const AT = `to_char(r.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS at`;
const CURSOR = /^(\d{4,6}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) (run_[0-9a-z]{26})$/;

/** The organization's runs, the newest first. Needs `run:read`. Errors: `forbidden`, `invalid_input`, `invalid_cursor`. */
export const listRuns = async (
  deps: { readonly db: Db },
  principal: Principal,
  input: ListRunsInput = {},
): Promise<Result<RunPage>> => {
  if (!principal.can(READ, "/runs/")) return err(forbidden(READ));
  const parsed = listRunsInput.safeParse(input);
  if (!parsed.success) return err(invalidInput(parsed.error));
  const { agent, state, first, after } = parsed.data;
  const values: unknown[] = [principal.orgId];
  const conditions = ["r.org_id = $1"];
  if (agent !== undefined) conditions.push(`r.agent = $${values.push(agent)}`);
  if (state !== undefined) {
    const place = `$${values.push(state)}`;
    conditions.push(isTerminal(state) ? `r.ended = ${place}` : `r.finished_at IS NULL AND r.state = ${place}`);
  }
  if (after !== undefined) {
    const cursor = CURSOR.exec(Buffer.from(after, "base64url").toString());
    if (cursor === null) return err(userError("invalid_cursor", "This is no cursor of this list: start without it."));
    values.push(cursor[1], cursor[2]);
    conditions.push(`(r.created_at, r.id) < ($${values.length - 1}::timestamptz, $${values.length})`);
  }
  const { rows } = await deps.db.withOrg(principal.orgId, (tx) =>
    tx.query<RunView & { readonly at: string }>({
      text: `SELECT ${RUN_COLUMNS}, ${AT} FROM run r WHERE ${conditions.join(" AND ")}
        ORDER BY r.created_at DESC, r.id DESC LIMIT ${first + 1}`,
      values,
    }),
  );
  const runs = rows.slice(0, first).map(({ at, ...run }) => {
    return { ...run, cursor: Buffer.from(`${at} ${run.id}`).toString("base64url") };
  });
  return ok({ runs, endCursor: rows.length > first ? (runs.at(-1)?.cursor ?? null) : null });
};
