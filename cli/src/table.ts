export type Cell = string | number | null | undefined;

export type Column<Row> = { readonly title: string; readonly cell: (row: Row) => Cell; readonly right?: boolean };

const GAP = "  ";

/** Control characters of foreign text would move the cursor or colour the terminal. */
// oxlint-disable-next-line no-control-regex -- they are exactly what is taken out
const plain = (text: string): string => text.replace(/[\u0000-\u001f\u007f-\u009f]+/g, " ");

const textOf = (cell: Cell): string => (cell === null || cell === undefined || cell === "" ? "–" : plain(String(cell)));

/** Rows under their titles in aligned columns, numbers to the right; ends with a line break. */
export const table = <Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string => {
  const texts = rows.map((row) => columns.map((column) => textOf(column.cell(row))));
  const widths = columns.map((column, at) =>
    Math.max(column.title.length, ...texts.map((row) => row[at]?.length ?? 0)),
  );
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, at) => (columns[at]?.right === true ? cell.padStart(widths[at] ?? 0) : cell.padEnd(widths[at] ?? 0)))
      .join(GAP)
      .trimEnd();
  return [line(columns.map((column) => column.title.toUpperCase())), ...texts.map(line)]
    .map((each) => `${each}\n`)
    .join("");
};

/** One thing's fields under each other, aligned; ends with a line break. */
export const fields = (pairs: readonly (readonly [string, Cell])[]): string => {
  const width = Math.max(...pairs.map(([title]) => title.length));
  return pairs.map(([title, cell]) => `${title.padEnd(width)}${GAP}${textOf(cell)}\n`).join("");
};
