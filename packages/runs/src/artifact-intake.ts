import type { Db } from "@shaman/db";
import { userError, type AppError, type JsonObject } from "@shaman/kernel";
import type { ObjectStore } from "@shaman/storage";
import { readPiece, type PiecePosition } from "./artifact-piece.ts";
import { isPlainText, joinText } from "./artifacts.ts";
import type { ArtifactPayload } from "./events.ts";
import type { ArtifactRecord, Lease } from "./batch.ts";
import { beginStoredPart, storedObjectId, type StoredPart } from "./stored-part.ts";

export type ArtifactLimits = {
  /** Of one artifact, what lies in the database. */
  readonly inlineBytes: number;
  /** Of all artifacts of the run together. */
  readonly totalBytes: number;
};

/** What a chunk comes to: an event that readers get, and the artifact once it is whole. */
export type TakenChunk = { readonly event?: ArtifactPayload; readonly record?: ArtifactRecord };

export type ArtifactIntake = {
  /**
   * Takes the next chunk. A promise means that content is on its way to the store: the next chunk, and whatever came
   * after it, must wait. Rejects with `limit_reached`, or an error of the store.
   */
  readonly take: (taskId: string, chunk: ArtifactPayload) => TakenChunk | Promise<TakenChunk>;
  /** Gives up what is on its way to the store. */
  readonly abandon: (reason: unknown) => void;
};

export type ArtifactStorage = { readonly store: ObjectStore; readonly limits: ArtifactLimits };

type Open = {
  readonly payload: ArtifactPayload;
  readonly parts: JsonObject[];
  /** Of the parts that stay in the database, and of all of them. */
  inlineBytes: number;
  bytes: number;
  /** The last part, when it is on its way to the store. */
  storing?: { readonly part: StoredPart; readonly isText: boolean };
  /** Readers get it as a whole, once it is. */
  held: boolean;
};

/** Text, decoded bytes or JSON: what would be stored of the part. */
const contentOf = (part: JsonObject): Buffer | undefined => {
  if (typeof part.text === "string") return Buffer.from(part.text);
  if (typeof part.raw === "string") return Buffer.from(part.raw, "base64");
  return "data" in part ? Buffer.from(JSON.stringify(part.data)) : undefined;
};

const sizeOf = (part: JsonObject): number => {
  if (typeof part.text === "string") return Buffer.byteLength(part.text);
  if (typeof part.raw === "string") return Buffer.byteLength(part.raw, "base64");
  return "data" in part ? Buffer.byteLength(JSON.stringify(part.data)) : 0;
};

const withoutContent = (part: JsonObject): JsonObject => {
  const { text, raw: _raw, data, ...rest } = part;
  if (typeof rest.mediaType === "string" && rest.mediaType !== "") return rest;
  if (typeof text === "string") return { ...rest, mediaType: "text/plain" };
  return data === undefined ? rest : { ...rest, mediaType: "application/json" };
};

/** A part without a file name of its own has the artifact's, where that is one. */
const named = (part: JsonObject, { name }: ArtifactPayload): JsonObject =>
  part.filename === undefined && name?.includes(".") === true ? { ...part, filename: name } : part;

/** An agent could otherwise name an object of another run, and whoever reads the task would be given it. */
const withoutForeignObject = (part: JsonObject): JsonObject =>
  storedObjectId(part) === undefined ? part : { ...part, url: "urn:shaman:refused" };

const totalReached = (totalBytes: number): AppError =>
  userError(
    "limit_reached",
    `The run reached its limit artifactTotalBytes: its artifacts are larger than ${totalBytes} bytes together. What it had so far is kept; raise the limit in the organization's settings.`,
  );

const PRIOR = `
SELECT coalesce(sum(a.bytes), 0)::bigint AS bytes FROM artifact a
WHERE a.org_id = $1 AND a.task_id IN (SELECT t.id FROM task t WHERE t.org_id = $1 AND t.run_id = $2)`;

/**
 * Puts artifacts together from their chunks. What does not fit into the database goes to the store while it comes, part
 * by part, so that memory holds no more of an artifact than its row may. Without a store everything is kept in the row.
 */
export const createArtifactIntake = (
  deps: { readonly db: Db },
  lease: Lease,
  storage: ArtifactStorage | undefined,
): ArtifactIntake => {
  const limits = storage?.limits ?? { inlineBytes: Infinity, totalBytes: Infinity };
  const open = new Map<string, Open>();
  const given = new AbortController();
  let takenBytes = 0;
  // What earlier holders of the lease recorded; the first one has nothing to ask for.
  let priorBytes = lease.epoch === 1 ? 0 : undefined;

  const begin = (key: string, chunk: ArtifactPayload): Open => {
    const before = open.get(key);
    const known = chunk.append ? before : undefined;
    if (before !== undefined && known === undefined) {
      takenBytes -= before.bytes;
      before.storing?.part.abandon();
    }
    const artifact = known ?? { payload: chunk, parts: [], inlineBytes: 0, bytes: 0, held: false };
    open.set(key, artifact);
    return artifact;
  };

  const count = (artifact: Open, bytes: number): void => {
    artifact.bytes += bytes;
    takenBytes += bytes;
    if (takenBytes + (priorBytes ?? 0) > limits.totalBytes) throw totalReached(limits.totalBytes);
  };

  /** Adds a part in memory; false when it belongs to the store. */
  const addInline = (artifact: Open, part: JsonObject, position: PiecePosition | undefined): boolean => {
    if (artifact.storing !== undefined) return false;
    const bytes = sizeOf(part);
    if (artifact.inlineBytes + bytes > limits.inlineBytes && storage !== undefined && !("url" in part)) {
      return false;
    }
    count(artifact, bytes);
    artifact.inlineBytes += bytes;
    addJoined(artifact.parts, part, position);
    return true;
  };

  const startStoring = async (place: Lease & { readonly taskId: string }, artifact: Open, part: JsonObject) => {
    if (storage === undefined) throw new TypeError("Nothing is stored without a store");
    priorBytes ??= await readPrior(deps.db, lease);
    const { artifactId } = artifact.payload;
    const { orgId, runId, taskId } = place;
    const stored = await beginStoredPart(
      { db: deps.db, store: storage.store },
      { orgId, runId, taskId, artifactId },
      { part: named(withoutContent(part), artifact.payload), signal: given.signal },
    );
    artifact.held = true;
    artifact.storing = { part: stored, isText: isPlainText(part) };
  };

  const finishStoring = async (artifact: Open): Promise<void> => {
    const { storing } = artifact;
    if (storing === undefined) return;
    const part = await storing.part.finish();
    delete artifact.storing;
    artifact.parts.push(part);
  };

  const addStored = async (
    taskId: string,
    artifact: Open,
    next: { readonly part: JsonObject; readonly position: PiecePosition | undefined },
  ): Promise<void> => {
    const { part, position } = next;
    const goesOn =
      position === "next" || position === "last" || (artifact.storing?.isText === true && isPlainText(part));
    if (artifact.storing !== undefined && !goesOn) {
      await finishStoring(artifact);
      if (addInline(artifact, part, position)) return;
    }
    if (artifact.storing === undefined) {
      const last = artifact.parts.at(-1);
      const joined = last !== undefined && joins(last, part, position) ? last : undefined;
      await startStoring({ ...lease, taskId }, artifact, joined ?? part);
      if (joined !== undefined) {
        artifact.parts.pop();
        artifact.inlineBytes -= sizeOf(joined);
        await writeTo(artifact, joined);
      }
    }
    count(artifact, sizeOf(part));
    await writeTo(artifact, part);
    if (position === "last") await finishStoring(artifact);
  };

  const end = (taskId: string, artifact: Open, chunk: ArtifactPayload): TakenChunk => {
    if (!chunk.lastChunk) return artifact.held ? {} : { event: chunk };
    open.delete(`${taskId}\n${chunk.artifactId}`);
    const { name, description, metadata } = artifact.payload;
    const told = {
      ...(name !== undefined && { name }),
      ...(description !== undefined && { description }),
      ...(metadata !== undefined && { metadata }),
    };
    const { artifactId } = chunk;
    const { parts, bytes } = artifact;
    const record = { taskId, artifactId, parts, ...told, ...(artifact.held && { bytes }) };
    const whole = { artifactId, parts, ...told, append: false, lastChunk: true };
    return { event: artifact.held ? whole : chunk, record };
  };

  const takeStored = async (
    taskId: string,
    artifact: Open,
    { chunk, from }: { readonly chunk: ArtifactPayload; readonly from: number },
  ): Promise<TakenChunk> => {
    for (const each of chunk.parts.slice(from)) {
      const { part: bare, position } = readPiece(each);
      const part = withoutForeignObject(bare);
      if (position !== undefined) artifact.held = true;
      if (!addInline(artifact, part, position)) await addStored(taskId, artifact, { part, position });
    }
    if (chunk.lastChunk) await finishStoring(artifact);
    return end(taskId, artifact, chunk);
  };

  return {
    take: (taskId, chunk) => {
      const artifact = begin(`${taskId}\n${chunk.artifactId}`, chunk);
      const parts = chunk.parts.map((each) => withoutForeignObject(each));
      for (const [index, each] of parts.entries()) {
        const { part, position } = readPiece(each);
        if (position !== undefined) artifact.held = true;
        if (!addInline(artifact, part, position)) return takeStored(taskId, artifact, { chunk, from: index });
      }
      if (chunk.lastChunk && artifact.storing !== undefined) {
        return takeStored(taskId, artifact, { chunk, from: parts.length });
      }
      return end(
        taskId,
        artifact,
        parts.some((part, index) => part !== chunk.parts[index]) ? { ...chunk, parts } : chunk,
      );
    },
    abandon: (reason) => given.abort(reason),
  };
};

const writeTo = async ({ storing }: Open, part: JsonObject): Promise<void> => {
  const bytes = contentOf(part);
  if (storing !== undefined && bytes !== undefined && bytes.byteLength > 0) await storing.part.write(bytes);
};

const joins = (last: JsonObject, part: JsonObject, position: PiecePosition | undefined): boolean =>
  position === "next" || position === "last" || (position === undefined && isPlainText(last) && isPlainText(part));

/** Adds a part, or puts it together with the one before that it continues. */
const addJoined = (parts: JsonObject[], part: JsonObject, position: PiecePosition | undefined): void => {
  const last = parts.at(-1);
  if (last === undefined || !joins(last, part, position)) parts.push(part);
  else parts[parts.length - 1] = joinText(last, part);
};

const readPrior = async (db: Db, { orgId, runId }: Lease): Promise<number> => {
  const [found] = await db.batch(orgId, [{ name: "artifact_bytes", text: PRIOR, values: [orgId, runId] }]);
  return Number(found?.rows[0]?.bytes ?? 0);
};
