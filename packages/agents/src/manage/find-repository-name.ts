import type { Db } from "@shaman/db";

/** What people call a repository, or its id where it has been removed since. */
export const findRepositoryName = async (
  db: Db,
  repository: { readonly orgId: string; readonly repositoryId: string },
): Promise<string> => {
  const { orgId, repositoryId } = repository;
  const [found] = await db.batch(orgId, [
    {
      name: "repository_name",
      text: "SELECT name FROM repository WHERE org_id = $1 AND id = $2",
      values: [orgId, repositoryId],
    },
  ]);
  return found?.rows[0]?.name ?? repositoryId;
};
