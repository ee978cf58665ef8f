import { AppError } from "@shaman/kernel";

/** What a finished write comes to. `sha256` is lower-case hexadecimal. */
export type StoredContent = { readonly bytes: number; readonly sha256: string };

/** First and last byte, both included. */
export type ByteRange = { readonly first: number; readonly last: number };

export type ObjectEntry = { readonly key: string; readonly bytes: number };

export type ObjectContent = {
  /** Of the whole object, also where a range was asked for. */
  readonly bytes: number;
  /** Read it to its end, or break it off: what is left open holds a file or a connection. */
  readonly content: AsyncIterable<Uint8Array>;
};

/**
 * Content by key (object-key.ts), in and out as streams: memory holds a few megabytes at most, however large the object.
 * Throws `AppError`: `storage_unavailable`, `storage_full` and `storage_denied`, all operational, and the reason of the
 * signal when it is aborted.
 */
export type ObjectStore = {
  /**
   * Writes the content. Once this resolves the object is there as a whole and survives a crash; until then, and when it
   * throws, the key holds what it held before. Content that throws breaks the write off.
   */
  readonly put: (
    key: string,
    content: AsyncIterable<Uint8Array>,
    options?: { readonly signal?: AbortSignal },
  ) => Promise<StoredContent>;
  /** The content, or nothing when there is no such object. A range must lie within the object. */
  readonly get: (
    key: string,
    options?: { readonly range?: ByteRange; readonly signal?: AbortSignal },
  ) => Promise<ObjectContent | undefined>;
  /** The object's size, or nothing when there is none. */
  readonly find: (key: string, options?: { readonly signal?: AbortSignal }) => Promise<ObjectEntry | undefined>;
  /** Deletes the object and what broken-off writes of it left behind. Nothing to delete is no error. */
  readonly delete: (key: string, options?: { readonly signal?: AbortSignal }) => Promise<void>;
  /** The objects below a prefix (an organization, a run or a task), ordered by key, after the key `after`. */
  readonly list: (
    prefix: string,
    options: { readonly limit: number; readonly after?: string; readonly signal?: AbortSignal },
  ) => Promise<readonly ObjectEntry[]>;
  /** Throws when the store cannot be used. Changes nothing there. */
  readonly check: () => Promise<void>;
  readonly close: () => Promise<void>;
};

const RETRY_MS = 2_000;

export const storageUnavailable = (message: string, cause?: unknown): AppError =>
  new AppError({
    code: "storage_unavailable",
    kind: "operational",
    message,
    publicMessage: "The store for artifacts cannot be reached at the moment.",
    retryAfterMs: RETRY_MS,
    ...(cause !== undefined && { cause }),
  });

export const storageFull = (message: string, cause?: unknown): AppError =>
  new AppError({
    code: "storage_full",
    kind: "operational",
    message,
    publicMessage: "The store for artifacts is full.",
    ...(cause !== undefined && { cause }),
  });

export const storageDenied = (message: string, cause?: unknown): AppError =>
  new AppError({
    code: "storage_denied",
    kind: "operational",
    message,
    publicMessage: "The store for artifacts refuses access. The operator has to look at its configuration.",
    ...(cause !== undefined && { cause }),
  });
