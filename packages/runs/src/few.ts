/**
 * Columns for rows that are handed to an UPDATE as JSON, to be asked for as `few = 1`. PostgreSQL expects a hundred rows
 * of any such list; this tells it that there is about one, so that it begins there and looks up the row to be changed by
 * its full key (docs/decisions/004-plans-that-cannot-age.md).
 */
export const FEW = { few: 1 } as const;

/**
 * Rows that name runs, in the order in which every statement over several runs locks them: so none of them can wait for
 * another in a circle.
 */
export const inOrderOfLocks = <Row extends { readonly run_id: string }>(rows: readonly Row[]): readonly Row[] =>
  rows.toSorted((a, b) => (a.run_id < b.run_id ? -1 : 1));
