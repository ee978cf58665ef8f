import type { Db } from "@shaman/db";
import { cardUrlsOf } from "./fetch-card.ts";

/** An outside agent as an agent means it: by its name in the registry, or by the address that an alias has. */
export type NamedOutside = { readonly name: string; readonly url?: string };

/**
 * What the stored cards of registered agents say of them, by the names they are asked for; nothing of those that are not
 * registered. Asks nobody outside.
 */
export const describeOutsideAgents = async (
  db: Db,
  orgId: string,
  wanted: readonly NamedOutside[],
): Promise<ReadonlyMap<string, string>> => {
  const names = wanted.flatMap(({ name, url }) => (url === undefined ? [name] : []));
  const urlsOf = ({ url }: NamedOutside): readonly string[] => (url === undefined ? [] : cardUrlsOf(url));
  const { rows } = await db.withOrg(orgId, (tx) =>
    tx.query<{ name: string; cardUrl: string; description: string }>({
      name: "external_descriptions",
      text: `SELECT name, card_url AS "cardUrl", coalesce(card->>'description', '') AS description FROM external_agent
        WHERE org_id = $1 AND (name = ANY ($2) OR card_url = ANY ($3))`,
      values: [orgId, names, wanted.flatMap(urlsOf)],
    }),
  );
  const found = wanted.flatMap((one): [string, string][] => {
    const row = rows.find(({ name, cardUrl }) =>
      one.url === undefined ? name === one.name : urlsOf(one).includes(cardUrl),
    );
    return row === undefined ? [] : [[one.name, row.description]];
  });
  return new Map(found);
};
