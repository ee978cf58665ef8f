/** Counts per key, holding nothing for those that are at 0. */
export type Tally = {
  readonly add: (key: string) => void;
  readonly remove: (key: string) => void;
  readonly of: (key: string) => number;
  /** Over all keys. */
  readonly total: () => number;
};

export const createTally = (): Tally => {
  const counts = new Map<string, number>();
  let total = 0;
  const of = (key: string): number => counts.get(key) ?? 0;
  return {
    of,
    total: () => total,
    add: (key) => {
      counts.set(key, of(key) + 1);
      total += 1;
    },
    remove: (key) => {
      const left = of(key) - 1;
      if (left > 0) counts.set(key, left);
      else counts.delete(key);
      total -= 1;
    },
  };
};
