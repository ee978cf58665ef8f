/** Time as a dependency, so that tests decide what time it is. */
export type Clock = { readonly now: () => number };

export const systemClock: Clock = { now: () => Date.now() };
