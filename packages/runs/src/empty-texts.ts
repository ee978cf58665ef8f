import type { Db } from "@shaman/db";

/** Events of each run that one statement looks at, so that none of them takes long. */
const EVENTS_A_STATEMENT = 200;

// What was withdrawn holds nothing, and must stay recognizable as such.
const EVENTS = `
UPDATE run_event SET payload = CASE type WHEN 'notice' THEN payload - 'message' ELSE jsonb_set(payload, '{parts}', '[]') END
WHERE org_id = $1 AND run_id = ANY($2) AND seq > $3 AND seq <= $4
  AND (type = 'notice' AND payload ? 'message' OR type = 'task.artifact' AND payload->'parts' <> '[]'
    AND NOT (payload->'parts' = '[{"text": ""}]' AND payload->>'append' = 'false'))`;

// Who decided about an approval, and how, is no text that an agent made.
const STEPS = `
UPDATE step SET input = NULL, output = CASE kind WHEN 'approval' THEN output END
WHERE org_id = $1 AND run_id = ANY($2) AND (input IS NOT NULL OR output IS NOT NULL AND kind <> 'approval')`;

const SHARED = `UPDATE run_data SET value = 'null' WHERE org_id = $1 AND run_id = ANY($2) AND value <> 'null'`;

/**
 * Takes out of what is recorded of finished runs what models, tools and agents said: texts of artifacts as they were
 * streamed, inputs and outputs of steps, shared values. What happened, when, and what it cost stays. Each statement is a
 * transaction of its own; done again, it changes nothing.
 */
export const emptyTexts = async (
  deps: { readonly db: Db },
  input: { readonly orgId: string; readonly runs: readonly { readonly id: string; readonly lastSeq: number }[] },
): Promise<void> => {
  const { orgId, runs } = input;
  const all = runs.map(({ id }) => id);
  await deps.db.batch(orgId, [{ name: "empty_steps", text: STEPS, values: [orgId, all] }]);
  await deps.db.batch(orgId, [{ name: "empty_shared", text: SHARED, values: [orgId, all] }]);
  for (let from = 0; ; from += EVENTS_A_STATEMENT) {
    const longer = runs.filter(({ lastSeq }) => lastSeq > from).map(({ id }) => id);
    if (longer.length === 0) return;
    const values = [orgId, longer, from, from + EVENTS_A_STATEMENT];
    await deps.db.batch(orgId, [{ name: "empty_events", text: EVENTS, values }]);
  }
};
