import { GONE } from "@shaman/kernel";

/** What became of a branch. */
type Settled<E, R> =
  | { readonly at: number; readonly ok: true; readonly next: IteratorResult<E, R> }
  | { readonly at: number; readonly ok: false; readonly error: unknown };

/**
 * Runs branches side by side, at most `limit` at once, and gives their events as they come: each is asked for one more
 * only when the last was taken. Returns their results in their order. When one throws, `abandon` is called so that the
 * others stop; when all have, the first error is thrown.
 */
export async function* mergeBranches<E, R>(
  branches: readonly (() => AsyncGenerator<E, R, undefined>)[],
  options: { readonly limit: number; readonly abandon: (error: unknown) => void },
): AsyncGenerator<E, readonly R[], undefined> {
  const results = new Map<number, R>();
  const running = new Map<number, AsyncGenerator<E, R, undefined>>();
  const ready: Settled<E, R>[] = [];
  const failure: { first?: { readonly error: unknown } } = {};
  let wake = (): void => undefined;
  let started = 0;

  const settle = (settled: Settled<E, R>): void => {
    ready.push(settled);
    wake();
  };
  const pull = (at: number, branch: AsyncGenerator<E, R, undefined>): void => {
    branch.next().then(
      (next) => settle({ at, ok: true, next }),
      (error: unknown) => settle({ at, ok: false, error }),
    );
  };
  const startMore = (): void => {
    while (failure.first === undefined && running.size < options.limit && started < branches.length) {
      const branch = branches[started]?.();
      if (branch === undefined) return;
      running.set(started, branch);
      pull(started, branch);
      started += 1;
    }
  };

  try {
    for (startMore(); running.size > 0; startMore()) {
      const settled = ready.shift();
      if (settled === undefined) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
        continue;
      }
      const { at } = settled;
      if (!settled.ok) {
        running.delete(at);
        if (failure.first !== undefined) continue;
        failure.first = { error: settled.error };
        options.abandon(settled.error);
      } else if (settled.next.done === true) {
        running.delete(at);
        results.set(at, settled.next.value);
      } else {
        yield settled.next.value;
        const branch = running.get(at);
        if (branch !== undefined) pull(at, branch);
      }
    }
  } finally {
    // Somebody stopped listening: what still runs is told so, and cleans up after itself.
    if (running.size > 0) {
      options.abandon(GONE);
      for (const branch of running.values()) branch.throw(GONE).catch(() => undefined);
    }
  }
  if (failure.first !== undefined) throw failure.first.error;
  return branches.map((_, at) => {
    const result = results.get(at);
    if (result === undefined) throw new Error(`branch ${at} ended without a result`);
    return result;
  });
}
