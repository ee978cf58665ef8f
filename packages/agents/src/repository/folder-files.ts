import { lstat, open, readdir } from "node:fs/promises";
import { constants } from "node:fs";
import { join, relative, sep } from "node:path";

import { MAX_FILES, type SourceFile, type SourceFiles } from "./source-files.ts";

const MAX_FOLDER_DEPTH = 64;

const kindOf = (entry: { isFile: () => boolean; isSymbolicLink: () => boolean }): SourceFile["kind"] =>
  entry.isSymbolicLink() ? "symlink" : entry.isFile() ? "file" : "other";

/** The files below a folder as they lie there. Links are listed and never followed; `.git` is left out. */
const listFiles = async (folder: string): Promise<readonly SourceFile[]> => {
  const files: SourceFile[] = [];
  const pending = [{ path: folder, depth: 0 }];
  for (let next = pending.pop(); next !== undefined && files.length <= MAX_FILES; next = pending.pop()) {
    for (const entry of await readdir(next.path, { withFileTypes: true })) {
      const path = join(next.path, entry.name);
      if (entry.isDirectory()) {
        if (entry.name !== ".git" && next.depth < MAX_FOLDER_DEPTH) pending.push({ path, depth: next.depth + 1 });
        continue;
      }
      const { size } = await lstat(path);
      files.push({ path: relative(folder, path).split(sep).join("/"), kind: kindOf(entry), bytes: size });
      if (files.length > MAX_FILES) break;
    }
  }
  return files.toSorted((a, b) => (a.path < b.path ? -1 : 1));
};

/** A plain folder as a source of agents. Rejects when it cannot be listed. */
export const folderFiles = async (folder: string): Promise<SourceFiles> => {
  const list = await listFiles(folder);
  const sizes = new Map(list.map((file) => [file.path, file.bytes]));
  return {
    list,
    read: async (paths) => {
      const contents = new Map<string, Uint8Array>();
      for (const path of paths) {
        // A link put in the file's place since it was listed is not followed either.
        const handle = await open(join(folder, path), constants.O_RDONLY | constants.O_NOFOLLOW);
        try {
          const buffer = Buffer.alloc(sizes.get(path) ?? 0);
          const { bytesRead } = await handle.read(buffer, 0, buffer.length, 0);
          contents.set(path, buffer.subarray(0, bytesRead));
        } finally {
          await handle.close();
        }
      }
      return contents;
    },
  };
};
