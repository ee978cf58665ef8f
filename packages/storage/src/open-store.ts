import type { StorageConfig } from "./config.ts";
import { createFolderStore } from "./folder-store.ts";
import type { ObjectStore } from "./object-store.ts";
import { createS3Store } from "./s3-store.ts";

/** The store that the configuration names. Nothing is reached before the first call. */
export const openObjectStore = (config: StorageConfig): ObjectStore =>
  config.kind === "s3" ? createS3Store(config) : createFolderStore({ folder: config.folder });
