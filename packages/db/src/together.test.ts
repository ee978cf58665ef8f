import { expect, it } from "vitest";
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

/** A server that answers when told to, and refuses every statement that has `bad` in it. */
const createServer = (options: { readonly undoes: boolean }) => {
  const sent: { readonly orgId: string; readonly keys: readonly unknown[]; readonly durable: string | undefined }[] =
    [];
  const waiting: (() => void)[] = [];
  const together = createTogether({
    wasUndone: () => options.undoes,
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
    while (waiting.length === 0) await new Promise((resolve) => void setImmediate(resolve));
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
  while (sent.length < 2) await new Promise((resolve) => void setImmediate(resolve));
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
