import { createHash, randomBytes } from "node:crypto";
import { constants, createReadStream } from "node:fs";
import { access, mkdir, open, readdir, rename, rm, rmdir, stat, type FileHandle } from "node:fs/promises";
import { dirname, join } from "node:path";
import { assertObjectKey, assertObjectPrefix } from "./object-key.ts";
import {
  storageDenied,
  storageFull,
  storageUnavailable,
  type ObjectEntry,
  type ObjectStore,
  type StoredContent,
} from "./object-store.ts";

const UNFINISHED = ".part";
const READ_BYTES = 64 * 1024;
/** A folder that another process deleted as empty, between our making it and our first file in it, is made again. */
const PLACE_TRIES = 5;

/**
 * Objects as files below one folder. A write goes to a file of its own beside the object's, reaches the disk, and takes
 * the object's name only then.
 */
export const createFolderStore = ({ folder }: { readonly folder: string }): ObjectStore => {
  const fileOf = (key: string): string => join(folder, assertObjectKey(key));

  const put: ObjectStore["put"] = async (key, content, { signal } = {}) => {
    const file = fileOf(key);
    const unfinished = `${file}.${randomBytes(8).toString("hex")}${UNFINISHED}`;
    try {
      const written = await writeFile({ folder, unfinished }, content, signal);
      signal?.throwIfAborted();
      await rename(unfinished, file);
      await syncFolder(dirname(file));
      return written;
    } catch (error) {
      await rm(unfinished, { force: true }).catch(() => undefined);
      throw asStorageError(error);
    }
  };

  const find: ObjectStore["find"] = async (key) => {
    const file = fileOf(key);
    try {
      return { key, bytes: (await stat(file)).size };
    } catch (error) {
      if (codeOf(error) === "ENOENT") return undefined;
      throw asStorageError(error);
    }
  };

  return {
    put,
    find,
    get: async (key, { range, signal } = {}) => {
      const found = await find(key);
      if (found === undefined) return undefined;
      const content = createReadStream(fileOf(key), {
        highWaterMark: READ_BYTES,
        ...(range !== undefined && { start: range.first, end: range.last }),
        ...(signal !== undefined && { signal }),
      });
      return { bytes: found.bytes, content };
    },
    delete: async (key) => {
      const file = fileOf(key);
      try {
        await rm(file, { force: true });
        const name = file.slice(dirname(file).length + 1);
        for (const other of await readdir(dirname(file))) {
          if (other.startsWith(`${name}.`) && other.endsWith(UNFINISHED)) await rm(join(dirname(file), other));
        }
      } catch (error) {
        if (codeOf(error) !== "ENOENT") throw asStorageError(error);
      }
      await removeEmptyFolders(dirname(file), folder);
    },
    list: async (prefix, { limit, after = "" }) => {
      const found: ObjectEntry[] = [];
      await walk({ folder, found, limit, after }, assertObjectPrefix(prefix).slice(0, -1));
      return found;
    },
    check: async () => {
      try {
        await access(await existingFolder(folder), constants.R_OK | constants.W_OK | constants.X_OK);
      } catch (error) {
        throw asStorageError(error);
      }
    },
    close: () => Promise.resolve(),
  };
};

/** The folder, or the one that it will be made in: whoever only looks must not be the one who makes and owns it. */
const existingFolder = async (folder: string): Promise<string> => {
  const found = await stat(folder).catch((error: unknown) => {
    if (codeOf(error) !== "ENOENT") throw error;
    return undefined;
  });
  if (found === undefined) return existingFolder(dirname(folder));
  if (found.isDirectory()) return folder;
  throw storageUnavailable(`The folder ARTIFACT_DIR cannot be used: ${folder} is no folder`);
};

const writeFile = async (
  { folder, unfinished }: { readonly folder: string; readonly unfinished: string },
  content: AsyncIterable<Uint8Array>,
  signal: AbortSignal | undefined,
): Promise<StoredContent> => {
  const file = await place(folder, unfinished);
  const hashed = createHash("sha256");
  let bytes = 0;
  try {
    for await (const chunk of content) {
      signal?.throwIfAborted();
      hashed.update(chunk);
      bytes += chunk.byteLength;
      await file.appendFile(chunk);
    }
    await file.sync();
  } finally {
    await file.close();
  }
  return { bytes, sha256: hashed.digest("hex") };
};

/** Makes the file and the folders it lies in; those are on the disk before the file is. */
const place = async (folder: string, file: string): Promise<FileHandle> => {
  for (let tries = 1; ; tries += 1) {
    const made = await mkdir(dirname(file), { recursive: true, mode: 0o700 });
    if (made !== undefined) {
      for (let at = dirname(dirname(file)); at.length >= folder.length; at = dirname(at)) await syncFolder(at);
    }
    try {
      return await open(file, "wx", 0o600);
    } catch (error) {
      if (codeOf(error) !== "ENOENT" || tries === PLACE_TRIES) throw error;
    }
  }
};

/** A name in a folder survives a crash only once the folder itself has been written. */
const syncFolder = async (folder: string): Promise<void> => {
  const handle = await open(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
};

const removeEmptyFolders = async (from: string, root: string): Promise<void> => {
  for (let at = from; at.length > root.length; at = dirname(at)) {
    try {
      await rmdir(at);
    } catch {
      // Not empty, or gone already: either way there is nothing left to tidy up.
      return;
    }
  }
};

type Walk = {
  readonly folder: string;
  readonly found: ObjectEntry[];
  readonly limit: number;
  readonly after: string;
};

/** In the order of the keys, which for a folder is that of its name with a slash behind it. */
const walk = async (into: Walk, path: string): Promise<void> => {
  const entries = await readdir(join(into.folder, path), { withFileTypes: true }).catch((error: unknown) => {
    if (codeOf(error) === "ENOENT") return [];
    throw asStorageError(error);
  });
  const named = entries.map((entry) => ({ entry, name: entry.isDirectory() ? `${entry.name}/` : entry.name }));
  for (const { entry, name } of named.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    if (into.found.length >= into.limit) return;
    const key = `${path}/${name}`;
    if (entry.isDirectory()) {
      // Everything below comes before `after` when the folder does, unless `after` itself lies in it.
      if (key > into.after || into.after.startsWith(key)) await walk(into, key.slice(0, -1));
    } else if (entry.isFile() && !name.endsWith(UNFINISHED) && key > into.after) {
      const size = await stat(join(into.folder, key)).catch(() => undefined);
      if (size !== undefined) into.found.push({ key, bytes: size.size });
    }
  }
};

const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";

/** What the system says, in our words; anything else (the content's own error, an abort) as it is. */
const asStorageError = (error: unknown): unknown => {
  const code = codeOf(error);
  const message = error instanceof Error ? error.message : String(error);
  switch (code) {
    case "ENOSPC":
    case "EDQUOT":
    case "EFBIG":
      return storageFull(`The disk below ARTIFACT_DIR has no room for an artifact: ${message}`, error);
    case "EACCES":
    case "EPERM":
    case "EROFS":
      return storageDenied(`The folder ARTIFACT_DIR cannot be written: ${message}`, error);
    case "EIO":
    case "EMFILE":
    case "ENFILE":
    case "ENOTDIR":
    case "ENOENT":
    case "ESTALE":
      return storageUnavailable(`The folder ARTIFACT_DIR cannot be used: ${message}`, error);
    default:
      return error;
  }
};
