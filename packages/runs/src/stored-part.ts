import { once } from "node:events";
import { PassThrough } from "node:stream";
import type { Db } from "@shaman/db";
import { newId, type JsonObject } from "@shaman/kernel";
import { contradicts, objectKey, SNIFFED_BYTES, type ObjectStore } from "@shaman/storage";
import { objectOf } from "./artifact-piece.ts";

/** The URL of a part whose content lies in the store, as rows and events hold it: this and the object's id. */
const OBJECT_URL = "urn:shaman:object:";

/** In the metadata of such a part: its size and hash. In that of an expired one: since when its content is gone. */
export const STORED_METADATA = "urn:shaman:a2a:stored:v1";

const BUFFER_BYTES = 256 * 1024;
const UNKNOWN_TYPE = "application/octet-stream";
const MAX_TYPE_CHARS = 200;

/** The id of the object that holds the part's content, or nothing when the part holds it itself. */
export const storedObjectId = (part: JsonObject): string | undefined =>
  typeof part.url === "string" && part.url.startsWith(OBJECT_URL) ? part.url.slice(OBJECT_URL.length) : undefined;

export type ArtifactPlace = {
  readonly orgId: string;
  readonly runId: string;
  readonly taskId: string;
  readonly artifactId: string;
};

/** A part on its way into the store. */
export type StoredPart = {
  /** Resolves once there is room for more. */
  readonly write: (bytes: Uint8Array) => Promise<void>;
  /** The part that refers to the content, once that is safe. */
  readonly finish: () => Promise<JsonObject>;
  /** Gives it up: nothing of it will be used. */
  readonly abandon: () => void;
};

const INSERT = `
INSERT INTO stored_object (org_id, id, run_id, task_id, artifact_id, key, media_type, filename)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`;
const FINISH = `UPDATE stored_object SET bytes = $3, sha256 = $4, media_type = $5 WHERE org_id = $1 AND id = $2`;

/**
 * Begins to store a part. Its row comes first: whatever happens then, retention knows of the object. `part` is the A2A
 * Part without its content.
 */
export const beginStoredPart = async (
  deps: { readonly db: Db; readonly store: ObjectStore },
  place: ArtifactPlace,
  input: { readonly part: JsonObject; readonly signal: AbortSignal },
): Promise<StoredPart> => {
  const { orgId } = place;
  const { signal } = input;
  const id = newId("art");
  const key = objectKey({ ...place, objectId: id });
  const declared = declaredType(input.part);
  const filename = typeof input.part.filename === "string" ? input.part.filename : null;
  const values = [orgId, id, place.runId, place.taskId, place.artifactId, key, declared, filename];
  await deps.db.batch(orgId, [{ name: "insert_stored_object", text: INSERT, values }]);

  const through = new PassThrough({ highWaterMark: BUFFER_BYTES });
  const stored = deps.store.put(key, through, { signal });
  stored.catch((error: unknown) => through.destroy(error instanceof Error ? error : undefined));
  // A broken write is told by `stored`; the stream has nothing to add, and must not end the process by it.
  through.on("error", () => undefined);
  let head = Buffer.alloc(0);

  return {
    write: async (bytes) => {
      if (head.byteLength < SNIFFED_BYTES) head = Buffer.concat([head, bytes]).subarray(0, SNIFFED_BYTES);
      if (through.destroyed) return void (await stored);
      if (!through.write(bytes)) await Promise.race([once(through, "drain"), stored]);
    },
    finish: async () => {
      through.end();
      const { bytes, sha256 } = await stored;
      // Whoever downloads it is told no type that the content contradicts.
      const wrong = contradicts({ head, mediaType: declared, fileName: filename ?? undefined });
      const mediaType = wrong === undefined ? declared : UNKNOWN_TYPE;
      await deps.db.batch(orgId, [
        { name: "finish_stored_object", text: FINISH, values: [orgId, id, bytes, sha256, mediaType] },
      ]);
      return {
        url: `${OBJECT_URL}${id}`,
        mediaType,
        ...(filename !== null && { filename }),
        metadata: { ...objectOf(input.part.metadata), [STORED_METADATA]: { bytes, sha256 } },
      };
    },
    abandon: () => void through.destroy(new Error("The artifact was begun again")),
  };
};

/** A type that could break out of a header is none. */
const declaredType = ({ mediaType }: JsonObject): string =>
  typeof mediaType === "string" &&
  mediaType.length <= MAX_TYPE_CHARS &&
  /^[\w.+-]+\/[\w.+-]+(?:; ?[\w-]+=[\w.+-]+)*$/.test(mediaType)
    ? mediaType
    : UNKNOWN_TYPE;
