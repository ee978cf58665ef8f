import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Statement } from "./statement.ts";
import { createTogether, type SharedWork } from "./together.ts";

type Item = { readonly key: string; readonly durable?: "at once" };

const echo: SharedWork<Item, string> = {
  maxItems: 3,
  statement: (_orgId, items) => ({ text: "echo", values: items.map(({ key }) => key) }),
  results: (rows) => rows.map((row) => String(row.key)),
  durable: ({ durable }) => durable ?? "later",
  order: ({ key }) => key,
};

const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

/** A server that answers when told to, and refuses every statement that has `bad` in it. */
const createServer = (options: { readonly undoes: boolean; readonly underWay?: number }) => {
  const sent: { readonly orgId: string; readonly keys: readonly unknown[]; readonly durable: string | undefined }[] =
    [];
  const waiting: (() => void)[] = [];
  const together = createTogether({
    wasUndone: () => options.undoes,
    underWay: () => options.underWay ?? 1,
    batch: (orgId, statements: readonly Statement[], { durable } = {}) => {
      const keys = statements[0]?.values ?? [];
      sent.push({ orgId, keys, durable });
      return new Promise((resolve, reject) => {
        waiting.push(() => {
          if (keys.includes("bad")) reject(new Error("refused"));
          else resolve([{ rows: keys.map((key) => ({ key })), rowCount: keys.length }]);
        });
      });
    },
  });
  const answer = async (): Promise<void> => {
    while (waiting.length === 0) await turn();
    waiting.shift()?.();
  };
  return { sent, together, answer };
};

it("sends what comes while a statement is under way with the next one, in order of its locks, each its own result", async () => {
  const { sent, together, answer } = createServer({ undoes: true });
  const first = together("org_a", echo, { key: "m" });
  await answer();
  expect(await first).toBe("m");
  const running = together("org_a", echo, { key: "n" });
  while (sent.length < 2) await turn();
  const later = ["d", "b", "c", "a"].map((key) => together("org_a", echo, { key }));
  for (let i = 0; i < 3; i += 1) await answer();
  expect(await Promise.all([running, ...later])).toEqual(["n", "d", "b", "c", "a"]);
  expect(sent.map(({ keys }) => keys)).toEqual([["m"], ["n"], ["b", "c", "d"], ["a"]]);
});

it("never mixes organizations, and waits for the disk as soon as one of a statement must", async () => {
  const { sent, together, answer } = createServer({ undoes: true });
  const all = [
    together("org_a", echo, { key: "x" }),
    together("org_b", echo, { key: "y" }),
    together("org_a", echo, { key: "w" }),
    together("org_a", echo, { key: "z", durable: "at once" }),
  ];
  for (let i = 0; i < 3; i += 1) await answer();
  expect(await Promise.all(all)).toEqual(["x", "y", "w", "z"]);
  expect(sent).toEqual([
    { orgId: "org_a", keys: ["x"], durable: "later" },
    { orgId: "org_b", keys: ["y"], durable: "later" },
    { orgId: "org_a", keys: ["w", "z"], durable: "at once" },
  ]);
});

it("lets only the piece that cannot be done fail, and serves whoever comes after it", async () => {
  const { sent, together, answer } = createServer({ undoes: true });
  const outcomes = Promise.allSettled(["first", "a", "bad", "c"].map((key) => together("org_a", echo, { key })));
  for (let i = 0; i < 5; i += 1) await answer();
  expect((await outcomes).map(({ status }) => status)).toEqual(["fulfilled", "fulfilled", "rejected", "fulfilled"]);
  expect(sent.map(({ keys }) => keys)).toEqual([["first"], ["a", "bad", "c"], ["a"], ["bad"], ["c"]]);
  const next = together("org_a", echo, { key: "d" });
  await answer();
  expect(await next).toBe("d");
});

it("repeats nothing when nobody can know whether it was done", async () => {
  const { sent, together, answer } = createServer({ undoes: false });
  const outcomes = Promise.allSettled(["first", "a", "bad"].map((key) => together("org_a", echo, { key })));
  await answer();
  await answer();
  expect((await outcomes).map(({ status }) => status)).toEqual(["fulfilled", "rejected", "rejected"]);
  expect(sent).toHaveLength(2);
});

describe("where much is under way", () => {
  beforeEach(() => vi.useFakeTimers({ toFake: ["performance", "setTimeout", "clearTimeout"], now: 0 }));
  afterEach(() => vi.useRealTimers());

  /** Many pieces in no time, so that the next ones are expected soon. */
  const inARush = async (options: { readonly underWay: number }) => {
    const server = createServer({ undoes: true, ...options });
    const pieces = Array.from({ length: 1 + 20 * echo.maxItems }, (_, i) =>
      server.together("org_a", echo, { key: `early${i}` }),
    );
    const answered = Promise.all(pieces);
    for (let statements = 0; statements < 21; statements += 1) await server.answer();
    await answered;
    const before = server.sent.length;
    return { ...server, sentSince: () => server.sent.slice(before).map(({ keys }) => keys) };
  };

  it("waits for as many as a third of that, and no longer than they take to come", async () => {
    const { together, sentSince, answer } = await inARush({ underWay: 9 });
    const all = ["a", "b"].map((key) => together("org_a", echo, { key }));
    await turn();
    expect(sentSince()).toEqual([]);
    all.push(together("org_a", echo, { key: "c" }));
    await answer();
    expect(await Promise.all(all)).toEqual(["a", "b", "c"]);
    expect(sentSince()).toEqual([["a", "b", "c"]]);
  });

  it("goes alone when nobody comes", async () => {
    const { together, sentSince, answer } = await inARush({ underWay: 9 });
    const alone = together("org_a", echo, { key: "a" });
    vi.advanceTimersByTime(7);
    await turn();
    expect(sentSince()).toEqual([]);
    vi.advanceTimersByTime(1);
    await answer();
    expect(await alone).toBe("a");
  });

  it("waits for nobody where few are under way, or where the pieces come slowly", async () => {
    const few = await inARush({ underWay: 5 });
    void few.together("org_a", echo, { key: "a" });
    expect(few.sentSince()).toEqual([["a"]]);

    const slow = createServer({ undoes: true, underWay: 9 });
    for (let i = 0; i < 30; i += 1) {
      vi.advanceTimersByTime(50);
      void slow.together("org_a", echo, { key: `${i}` });
      await slow.answer();
      await turn();
    }
    expect(slow.sent).toHaveLength(30);
  });
});
