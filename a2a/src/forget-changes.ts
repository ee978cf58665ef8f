import { isCacheChange, parseCacheChange, type CacheChange } from "@shaman/access";
import { CHANNELS, type ChangeFeed, type FanOut } from "@shaman/queue";

export type ForgetDeps = {
  readonly changes: ChangeFeed;
  readonly fanOut: FanOut;
  readonly onError: (error: unknown) => void;
};

export type Forget = { readonly one: (change: CacheChange) => void; readonly all: () => void };

/**
 * Forgets what was remembered of a changed row: at once when a nudge says so, and in any case when the next look at what
 * has changed finds it. Resolves when it has looked once.
 */
export const forgetChanges = async ({ changes, fanOut, onError }: ForgetDeps, forget: Forget): Promise<void> => {
  changes.onChange((change) => {
    if (isCacheChange(change)) forget.one(change);
  });
  changes.onUnknown(forget.all);
  await fanOut.subscribe(CHANNELS.cache, (payload) => {
    const change = parseCacheChange(payload);
    if (change !== undefined) forget.one(change);
  });
  fanOut.onGap(() => void changes.look().catch(onError));
  await changes.look();
};
