import type { Db } from "@shaman/db";

/** Content of an artifact in the store. */
export type StoredObject = {
  readonly key: string;
  readonly bytes: number;
  /** Lower-case hexadecimal. */
  readonly sha256: string;
  readonly mediaType: string;
  readonly filename: string | null;
};

const SELECT = `
SELECT key, bytes, sha256, media_type AS "mediaType", filename FROM stored_object
WHERE org_id = $1 AND id = $2 AND sha256 IS NOT NULL AND state <> 'deleting'`;

/** The object, once it is whole and as long as it has not expired. */
export const findStoredObject = async (
  db: Db,
  { orgId, objectId }: { readonly orgId: string; readonly objectId: string },
): Promise<StoredObject | undefined> => {
  const [found] = await db.batch(orgId, [{ name: "find_stored_object", text: SELECT, values: [orgId, objectId] }]);
  const row = found?.rows[0];
  if (row === undefined) return undefined;
  const { key, bytes, sha256, mediaType, filename } = row;
  return { key, bytes: Number(bytes), sha256, mediaType, filename };
};
