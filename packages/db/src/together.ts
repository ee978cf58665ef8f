import type { BatchOptions, Row, Rows, Statement } from "./statement.ts";

/** Work that one statement can do for several callers at once, each as if it were alone. */
export type SharedWork<Item, Result> = {
  /** So that a crowd does not become one statement that everybody waits for. */
  readonly maxItems: number;
  /** One statement for all items, in the order they have here. */
  readonly statement: (orgId: string, items: readonly Item[]) => Statement;
  /** What each item came to, in the order of the items. */
  readonly results: (rows: readonly Row[], items: readonly Item[]) => readonly Result[];
  /** Whether the commit must wait for the disk: for all of them as soon as one needs it. */
  readonly durable: (item: Item) => NonNullable<BatchOptions["durable"]>;
  /** Statements take their locks in this order of their items, so that two of them cannot wait for each other. */
  readonly order: (item: Item) => string;
};

export type Together = <Item, Result>(orgId: string, work: SharedWork<Item, Result>, item: Item) => Promise<Result>;

type Deps = {
  readonly batch: (
    orgId: string,
    statements: readonly Statement[],
    options?: BatchOptions,
  ) => Promise<readonly Rows<Row>[]>;
  /** Whether the server refused the statement and undid it; false when nobody can know. */
  readonly wasUndone: (error: unknown) => boolean;
};

type Waiting<Item, Result> = {
  readonly item: Item;
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
};

/** What waits for its turn, of one kind of work and one organization; there only while something is under way. */
type Lanes<Item, Result> = Map<string, Waiting<Item, Result>[]>;

/** While statements of a kind follow each other as closely as this, one waits for what else the event loop's turn brings. */
const CROWDED_MS = 2;

/**
 * Sends the first piece of a kind of work at once; what comes for the same organization while it is under way goes
 * together in the next statement. So a lone caller waits for nobody, and the more come, the less each costs.
 */
export const createTogether = (deps: Deps): Together => {
  const lanesOf = new Map<unknown, unknown>();
  const lastDoneMs = new Map<unknown, number>();
  return <Item, Result>(orgId: string, work: SharedWork<Item, Result>, item: Item): Promise<Result> => {
    // Filed under the work itself, so they are of its types.
    const lanes = (lanesOf.get(work) ?? new Map()) as Lanes<Item, Result>;
    lanesOf.set(work, lanes);
    return new Promise((resolve, reject) => {
      const lane = lanes.get(orgId);
      if (lane !== undefined) {
        lane.push({ item, resolve, reject });
        return;
      }
      const waiting = [{ item, resolve, reject }];
      lanes.set(orgId, waiting);
      const isCrowded = performance.now() - (lastDoneMs.get(work) ?? -Infinity) < CROWDED_MS;
      void serve(deps, { orgId, work, waiting, isCrowded }, () => {
        lanes.delete(orgId);
        lastDoneMs.set(work, performance.now());
      });
    });
  };
};

/** What else this turn of the event loop brings can come along. */
const nextTurn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

type Turn<Item, Result> = {
  readonly orgId: string;
  readonly work: SharedWork<Item, Result>;
  readonly waiting: Waiting<Item, Result>[];
};

/** Never rejects. Says `close` in the same turn in which it sees that nothing waits, so that nothing can come between. */
const serve = async <Item, Result>(
  deps: Deps,
  turn: Turn<Item, Result> & { readonly isCrowded: boolean },
  close: () => void,
): Promise<void> => {
  if (turn.isCrowded) await nextTurn();
  while (turn.waiting.length > 0) {
    const next = turn.waiting.splice(0, turn.work.maxItems);
    const { order } = turn.work;
    if (next.length > 1) next.sort((a, b) => (order(a.item) < order(b.item) ? -1 : 1));
    await doTogether(deps, { ...turn, waiting: next });
  }
  close();
};

const doTogether = async <Item, Result>(deps: Deps, turn: Turn<Item, Result>): Promise<void> => {
  const { orgId, work, waiting } = turn;
  const items = waiting.map(({ item }) => item);
  const durable = items.some((item) => work.durable(item) === "at once") ? "at once" : "later";
  try {
    const [answer] = await deps.batch(orgId, [work.statement(orgId, items)], { durable });
    const results = work.results(answer?.rows ?? [], items);
    results.forEach((result, i) => waiting[i]?.resolve(result));
  } catch (error) {
    if (waiting.length === 1 || !deps.wasUndone(error)) {
      for (const { reject } of waiting) reject(error);
      return;
    }
    // Nothing of it was done. Each alone, so that only the one that cannot be done fails.
    for (const one of waiting) await doTogether(deps, { ...turn, waiting: [one] });
  }
};
