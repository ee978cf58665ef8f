import { expect, test } from "vitest";
import { mergeBranches } from "./merge-branches.ts";

type Branch = () => AsyncGenerator<string, string, undefined>;

const branch = (name: string, pieces: number, before: Promise<unknown> = Promise.resolve()): Branch =>
  async function* () {
    for (let i = 0; i < pieces; i += 1) {
      await before;
      yield `${name}${i}`;
    }
    return name;
  };

const collect = async (branches: readonly Branch[], limit = 16) => {
  const abandoned: unknown[] = [];
  const merged = mergeBranches(branches, { limit, abandon: (error) => abandoned.push(error) });
  const events: string[] = [];
  for (;;) {
    const next = await merged.next();
    if (next.done === true) return { events, results: next.value, abandoned };
    events.push(next.value);
  }
};

test("branches run side by side, and their results come in their order", async () => {
  const gate = Promise.withResolvers<void>();
  const slow = branch("a", 1, gate.promise);
  const quick: Branch = async function* () {
    yield "b0";
    gate.resolve();
    return "b";
  };
  expect(await collect([slow, quick])).toEqual({ events: ["b0", "a0"], results: ["a", "b"], abandoned: [] });
});

test("no more branches are open at once than allowed", async () => {
  let open = 0;
  let most = 0;
  const counted: Branch = async function* () {
    open += 1;
    most = Math.max(most, open);
    yield "x";
    open -= 1;
    return "x";
  };
  const { results } = await collect(
    Array.from({ length: 10 }, () => counted),
    3,
  );
  expect(results).toHaveLength(10);
  expect(most).toBe(3);
});

test("the first error stops the others, waits for them, and is the one that is thrown", async () => {
  const stop = new AbortController();
  let cleanedUp = false;
  const waiting: Branch = async function* () {
    try {
      yield "started";
      await new Promise((_, reject) => {
        stop.signal.addEventListener("abort", () => reject(stop.signal.reason), { once: true });
      });
      return "never";
    } finally {
      cleanedUp = true;
    }
  };
  // oxlint-disable-next-line require-yield -- a branch that only fails
  const failing: Branch = async function* () {
    await Promise.resolve();
    throw new Error("first");
  };
  const merged = mergeBranches([waiting, failing], { limit: 2, abandon: (error) => stop.abort(error) });
  await expect(
    (async () => {
      for (let next = await merged.next(); next.done !== true; next = await merged.next()) continue;
    })(),
  ).rejects.toThrow("first");
  expect(cleanedUp).toBe(true);
});

test("a reader that stops abandons all of them", async () => {
  const abandoned: unknown[] = [];
  const merged = mergeBranches([branch("a", 5), branch("b", 5)], {
    limit: 2,
    abandon: (error) => abandoned.push(error),
  });
  await merged.next();
  await merged.throw(new Error("gone")).catch(() => undefined);
  expect(abandoned).toHaveLength(1);
});
