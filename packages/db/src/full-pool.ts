import type pg from "pg";

export type FullPool = {
  /** Resolves when every connection is open, or when the first try to open them has failed. */
  readonly opened: Promise<void>;
  /** Call it before the pool is ended. */
  readonly stop: () => void;
};

const LOOK_MS = 1_000;

/**
 * Opens all connections of a pool and keeps them open, so that how many a database sees depends on the processes alone:
 * not on how busy they are, nor on how many organizations they serve. What broke is opened again within a second.
 * The pool must have been made with `idleTimeoutMillis: 0`.
 */
export const keepFull = (
  pool: pg.Pool,
  options: { readonly size: number; readonly onError: (error: Error) => void },
): FullPool => {
  const fill = async (): Promise<void> => {
    const missing = options.size - pool.totalCount;
    if (missing <= 0) return;
    // Idle ones come first, so all of them are taken for a moment: only then does the pool open what is missing.
    const taken = await Promise.allSettled(Array.from({ length: missing + pool.idleCount }, () => pool.connect()));
    for (const one of taken) if (one.status === "fulfilled") one.value.release();
    const failed = taken.find((one) => one.status === "rejected");
    if (failed !== undefined && !stopped) options.onError(asError(failed.reason));
  };

  let stopped = false;
  let filling: Promise<void> | undefined;
  const look = (): Promise<void> => {
    filling ??= fill().finally(() => {
      filling = undefined;
    });
    return filling;
  };

  const timer = setInterval(() => void look(), LOOK_MS);
  timer.unref();
  return {
    opened: look(),
    stop: () => {
      stopped = true;
      clearInterval(timer);
    },
  };
};

const asError = (reason: unknown): Error => (reason instanceof Error ? reason : new Error(String(reason)));
