import type { Db } from "@shaman/db";
import { collectObjects, expireArtifacts, forgetStepMedia } from "@shaman/runs";
import type { ObjectStore } from "@shaman/storage";
import { listRetention } from "@shaman/tenancy";

/** Batches a turn, of one organization and of all objects: the rest waits for the next turn. */
const BATCHES = 20;

/**
 * Deletes artifacts that are older than their organization keeps them, objects that nothing refers to, and images of tools
 * whose runs are over.
 */
export const keepRetention = async (
  deps: { readonly db: Db; readonly store: ObjectStore },
  { signal }: { readonly signal: AbortSignal },
): Promise<void> => {
  for (const { orgId, artifactDays: days } of await listRetention(deps)) {
    for (let batch = 0; batch < BATCHES && !signal.aborted; batch += 1) {
      if ((await expireArtifacts(deps, { orgId, days })) === 0) break;
    }
  }
  for (let batch = 0; batch < BATCHES && !signal.aborted; batch += 1) {
    if ((await forgetStepMedia(deps)) === 0) break;
  }
  for (let batch = 0; batch < BATCHES && !signal.aborted; batch += 1) {
    if ((await collectObjects(deps, { signal })) === 0) return;
  }
};
