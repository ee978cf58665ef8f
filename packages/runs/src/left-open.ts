import type { Db } from "@shaman/db";

/** The artifact that carries the text of a model step; a repeated step begins it again. */
export const responseArtifactId = (position: number): string => `response-${position}`;

export type OpenArtifact = { readonly taskId: string; readonly artifactId: string };

const LEFT_OPEN = `
SELECT task_id, id FROM (
  SELECT DISTINCT ON (task_id, payload->>'artifactId') task_id, payload->>'artifactId' AS id, payload->'lastChunk' AS last
  FROM run_event WHERE org_id = $1 AND run_id = $2 AND type = 'task.artifact'
  ORDER BY task_id, payload->>'artifactId', seq DESC) newest
WHERE last = 'false'`;

/** The artifacts that an interrupted attempt of the run began and did not end. */
export const listLeftOpen = async (
  db: Db,
  run: { readonly orgId: string; readonly runId: string },
): Promise<readonly OpenArtifact[]> => {
  const [found] = await db.batch(run.orgId, [{ name: "left_open", text: LEFT_OPEN, values: [run.orgId, run.runId] }]);
  return (found?.rows ?? []).map((row) => ({ taskId: row.task_id, artifactId: row.id }));
};
