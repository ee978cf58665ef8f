/** One statement. A `name` makes it a prepared statement of the connection; a name must always mean the same text. */
export type Statement = { readonly name?: string; readonly text: string; readonly values?: readonly unknown[] };

export type Rows<R> = { readonly rows: R[]; readonly rowCount: number };

export type BatchOptions = {
  /**
   * `later`: does not wait until the disk has the commit. A crash of PostgreSQL may then undo it, together with all that
   * came after it; any later ordinary commit makes it as safe as itself.
   */
  readonly durable?: "at once" | "later";
};

/** A row as PostgreSQL gave it; parse what you take from it. */
// oxlint-disable-next-line typescript/no-explicit-any -- the columns of a row are known only to the statement's author
export type Row = Record<string, any>;
