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
  /** How much work of the organization is under way in this process: pieces that may come soon. */
  readonly underWay: (orgId: string) => number;
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

/** One kind of work of one organization. */
type Lane<Item, Result> = {
  waiting: Waiting<Item, Result>[];
  isSending: boolean;
  /** Set while something waits for company. */
  timer: NodeJS.Timeout | undefined;
  immediate: NodeJS.Immediate | undefined;
  /** Since when the first that waits does. */
  waitsSince: number;
  lastAt: number;
  /** The usual time between two pieces. */
  gapMs: number;
};

/** How long a piece waits for company at most. */
const HOLD_MS = 8;
/** Of the work that is under way, the part worth waiting for: the rest is elsewhere on its path. */
const SHARE = 3;
/** As many are waited for as usually come within this time. */
const COMES_MS = 24;
const LONG_AGO_MS = 1_000;
const LANES_KEPT = 1_000;

/**
 * Sends the first piece of a kind of work at once; what comes for the same organization while it is under way goes
 * together in the next statement. Where much is under way and comes fast, a piece waits a moment for company. So a lone
 * caller waits for nobody, and the more come, the less each costs.
 */
export const createTogether = (deps: Deps): Together => {
  const kinds = new Map<unknown, unknown>();
  return <Item, Result>(orgId: string, work: SharedWork<Item, Result>, item: Item): Promise<Result> => {
    // Filed under the work itself, so they are of its types.
    const lanes = (kinds.get(work) ?? new Map()) as Map<string, Lane<Item, Result>>;
    kinds.set(work, lanes);
    const now = performance.now();
    const lane = lanes.get(orgId) ?? newLane();
    if (lane.lastAt === -Infinity) {
      if (lanes.size >= LANES_KEPT) forgetQuiet(lanes, now);
      lanes.set(orgId, lane);
    }
    lane.gapMs += (Math.min(now - lane.lastAt, LONG_AGO_MS) - lane.gapMs) / 8;
    lane.lastAt = now;
    return new Promise((resolve, reject) => {
      if (lane.waiting.length === 0) lane.waitsSince = now;
      lane.waiting.push({ item, resolve, reject });
      if (!lane.isSending) sendOrHold({ deps, orgId, work, lane }, now);
    });
  };
};

const newLane = <Item, Result>(): Lane<Item, Result> => ({
  waiting: [],
  isSending: false,
  timer: undefined,
  immediate: undefined,
  waitsSince: 0,
  lastAt: -Infinity,
  gapMs: LONG_AGO_MS,
});

const forgetQuiet = <Item, Result>(lanes: Map<string, Lane<Item, Result>>, now: number): void => {
  for (const [orgId, lane] of lanes) {
    if (!lane.isSending && lane.waiting.length === 0 && now - lane.lastAt > LONG_AGO_MS) lanes.delete(orgId);
  }
};

type At<Item, Result> = {
  readonly deps: Deps;
  readonly orgId: string;
  readonly work: SharedWork<Item, Result>;
  readonly lane: Lane<Item, Result>;
};

/** With how many others a piece goes, if they come in time. */
const worthWaitingFor = <Item, Result>({ deps, orgId, work, lane }: At<Item, Result>): number =>
  Math.min(work.maxItems, deps.underWay(orgId) / SHARE, COMES_MS / lane.gapMs);

const sendOrHold = <Item, Result>(at: At<Item, Result>, now: number): void => {
  const { lane } = at;
  if (lane.immediate !== undefined) return;
  const few = Math.floor(worthWaitingFor(at));
  const left = HOLD_MS - (now - lane.waitsSince);
  if (few < 2 || left < 1) return send(at);
  if (lane.waiting.length >= few) {
    // What else this turn of the event loop brings can come along.
    lane.immediate = setImmediate(send, at);
  } else lane.timer ??= setTimeout(send, left, at);
};

const send = <Item, Result>(at: At<Item, Result>): void => {
  const { deps, orgId, work, lane } = at;
  clearTimeout(lane.timer);
  clearImmediate(lane.immediate);
  lane.timer = undefined;
  lane.immediate = undefined;
  const waiting = lane.waiting.splice(0, work.maxItems);
  const { order } = work;
  if (waiting.length > 1) waiting.sort((a, b) => (order(a.item) < order(b.item) ? -1 : 1));
  lane.isSending = true;
  void doTogether(deps, { orgId, work, waiting }).then(() => {
    lane.isSending = false;
    if (lane.waiting.length > 0) sendOrHold(at, performance.now());
  });
};

type Turn<Item, Result> = {
  readonly orgId: string;
  readonly work: SharedWork<Item, Result>;
  readonly waiting: readonly Waiting<Item, Result>[];
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
