export { storageConfig } from "./config.ts";
export type { StorageConfig } from "./config.ts";
export {
  downloadKeysConfig,
  isDownloadAllowed,
  newDownloadKeys,
  readDownloadKeys,
  signDownload,
} from "./download-url.ts";
export type { Download, DownloadKeys } from "./download-url.ts";
export { createFolderStore } from "./folder-store.ts";
export { contradicts, essenceOf, isTextual, SNIFFED_BYTES } from "./media-type.ts";
export { objectKey } from "./object-key.ts";
export type { ByteRange, ObjectContent, ObjectEntry, ObjectStore, StoredContent } from "./object-store.ts";
export { openObjectStore } from "./open-store.ts";
