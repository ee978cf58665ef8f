/**
 * Columns for rows that are handed to an UPDATE as JSON, to be asked for as `few = 1`. PostgreSQL expects a hundred rows
 * of any such list; this tells it that there is about one, so that it begins there and looks up the row to be changed by
 * its full key (docs/decisions/004-plans-that-cannot-age.md).
 */
export const FEW = { few: 1 } as const;
