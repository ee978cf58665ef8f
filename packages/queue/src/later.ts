export type Later = {
  readonly put: (work: () => Promise<void>) => void;
  readonly close: () => void;
};

/** So much is kept; what is beyond it is left to whoever looks for what was forgotten. */
const MAX_KEPT = 10_000;

/** Work that failed because something is away: done one after the other as soon as that is back. */
export const createLater = (afterMs: number): Later => {
  const kept: (() => Promise<void>)[] = [];
  let timer: NodeJS.Timeout | undefined;

  const wait = (): void => {
    timer = setTimeout(() => void doAll(), afterMs).unref();
  };

  const doAll = async (): Promise<void> => {
    try {
      for (let next = kept[0]; next !== undefined; next = kept[0]) {
        await next();
        kept.shift();
      }
      timer = undefined;
    } catch {
      // Others come first next time, should it have failed for another reason.
      kept.push(...kept.splice(0, 1));
      if (timer !== undefined) wait();
    }
  };

  return {
    put: (work) => {
      if (kept.length >= MAX_KEPT) return;
      kept.push(work);
      if (timer === undefined) wait();
    },
    close: () => {
      clearTimeout(timer);
      timer = undefined;
      kept.length = 0;
    },
  };
};
