import { hash } from "node:crypto";
import { AppError } from "@shaman/kernel";

const SEGMENT = "[A-Za-z0-9_-]{1,100}";
const KEY = new RegExp(`^org_${SEGMENT}/run_${SEGMENT}/task_${SEGMENT}/${SEGMENT}$`);
const PREFIX = new RegExp(`^org_${SEGMENT}/(?:run_${SEGMENT}/(?:task_${SEGMENT}/)?)?$`);
const HASH_CHARS = 24;

/**
 * `org_…/run_…/task_…/hash-art_…`. An artifact's own id is chosen by agents, so only its hash is part of the key. The
 * last part is new for every write, so that a worker that lost its lease never overwrites what the next one wrote.
 */
export const objectKey = (place: {
  readonly orgId: string;
  readonly runId: string;
  readonly taskId: string;
  readonly artifactId: string;
  readonly objectId: string;
}): string => {
  const artifact = hash("sha256", place.artifactId, "hex").slice(0, HASH_CHARS);
  return assertObjectKey(`${place.orgId}/${place.runId}/${place.taskId}/${artifact}-${place.objectId}`);
};

/** Gives the key back, or throws: no dot, no empty segment, no other depth ever reaches a file system or a URL. */
export const assertObjectKey = (key: string): string => {
  if (KEY.test(key)) return key;
  throw new AppError({
    code: "object_key_invalid",
    kind: "unexpected",
    message: `Not the key of an object: ${JSON.stringify(key.slice(0, 200))}`,
  });
};

/** The same for what `list` takes: an organization, run or task, with the slash at its end. */
export const assertObjectPrefix = (prefix: string): string => {
  if (PREFIX.test(prefix)) return prefix;
  throw new AppError({
    code: "object_key_invalid",
    kind: "unexpected",
    message: `Not a prefix of objects: ${JSON.stringify(prefix.slice(0, 200))}`,
  });
};
