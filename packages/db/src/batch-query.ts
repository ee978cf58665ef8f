import pg from "pg";

export type BatchStatement = { readonly name?: string; readonly text: string; readonly values?: readonly unknown[] };

type Message = object;

/** What node-postgres calls on its queries while an answer comes in; its type declarations leave this out. */
type AnswerHandler = {
  handleRowDescription(message: Message): void;
  handleDataRow(message: Message): void;
  handleCommandComplete(message: Message, connection: pg.Connection): void;
  handleReadyForQuery(connection: pg.Connection): void;
};

type HandlingQuery = pg.Query & AnswerHandler;
const isHandling = (query: pg.Query): query is HandlingQuery => "handleRowDescription" in query;

/**
 * Several statements between two Syncs of the extended query protocol: one message out, one answer back, and one implicit
 * transaction that commits as a whole or not at all (PostgreSQL, Message Flow, §54.2.4 Pipelining). node-postgres ends
 * every query with a Sync of its own, which costs a write and a flush a statement on each side.
 */
export class BatchQuery extends pg.Query {
  readonly #parts: readonly HandlingQuery[];
  readonly #results: pg.QueryResult[] = [];
  readonly #done: (error: Error | undefined, results: readonly pg.QueryResult[]) => void;
  #current = 0;

  constructor(
    statements: readonly BatchStatement[],
    types: pg.CustomTypesConfig,
    done: (error: Error | undefined, results: readonly pg.QueryResult[]) => void,
  ) {
    super({ text: "batch" });
    this.#done = done;
    this.#parts = statements.map(({ name, text, values }) => {
      const config = {
        text,
        types,
        values: values === undefined ? [] : [...values],
        queryMode: "extended",
        ...(name !== undefined && { name }),
      };
      const part = new pg.Query(config, (error, result) => {
        if (error === undefined || error === null) this.#results.push(result);
      });
      if (!isHandling(part)) throw new Error("This version of node-postgres handles answers differently");
      return part;
    });
  }

  override submit = (connection: pg.Connection): void => {
    // The parts write to the same connection, but only the end of the batch is a Sync.
    const quiet: pg.Connection = Object.create(connection, { sync: { value: () => undefined } });
    connection.stream.cork();
    try {
      for (const part of this.#parts) part.submit(quiet);
      connection.sync();
    } finally {
      connection.stream.uncork();
    }
  };

  handleRowDescription(message: Message): void {
    this.#parts[this.#current]?.handleRowDescription(message);
  }

  handleDataRow(message: Message): void {
    this.#parts[this.#current]?.handleDataRow(message);
  }

  handleCommandComplete(message: Message, connection: pg.Connection): void {
    this.#parts[this.#current]?.handleCommandComplete(message, connection);
    this.#current += 1;
  }

  handleError(error: Error): void {
    this.#done(error, []);
  }

  handleReadyForQuery(connection: pg.Connection): void {
    for (const part of this.#parts) part.handleReadyForQuery(connection);
    this.#done(undefined, this.#results);
  }
}
