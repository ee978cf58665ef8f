import { AppError } from "@shaman/kernel";

import type { SourceFile } from "../repository/source-files.ts";

/** A blob of a commit under its path in the registered directory. */
export type TreeEntry = SourceFile & { readonly oid: string };

const ENTRY = /^(?<mode>[0-7]{6}) (?<type>\w+) (?<oid>[0-9a-f]{40,64}) +(?<size>\d+|-)\t(?<path>.+)$/s;

const KINDS: Readonly<Record<string, SourceFile["kind"]>> = {
  "100644": "file",
  "100755": "file",
  "120000": "symlink",
  "160000": "submodule",
};

/** Reads `ls-tree -r -z -l`. An entry cut off at the end is left out. */
export const parseTree = (output: Buffer): readonly TreeEntry[] => {
  const entries = output.toString("utf8").split("\0").slice(0, -1);
  return entries.flatMap((text) => {
    const { mode = "", oid = "", size = "", path = "" } = ENTRY.exec(text)?.groups ?? {};
    if (path === "") return [];
    return [{ path, oid, kind: KINDS[mode] ?? "other", bytes: size === "-" ? 0 : Number(size) }];
  });
};

const NEWLINE = 0x0a;

const unexpected = (what: string): AppError =>
  new AppError({ code: "git_output_unexpected", kind: "unexpected", message: `git cat-file said ${what}` });

/** Reads `cat-file --batch`: contents by object id. Throws when an object is missing or not a blob. */
export const parseBatch = (output: Buffer): ReadonlyMap<string, Buffer> => {
  const contents = new Map<string, Buffer>();
  let at = 0;
  while (at < output.length) {
    const lineEnd = output.indexOf(NEWLINE, at);
    const [oid = "", type = "", size = ""] = output
      .toString("utf8", at, lineEnd === -1 ? undefined : lineEnd)
      .split(" ");
    const from = lineEnd + 1;
    const to = from + Number(size);
    if (lineEnd === -1 || type !== "blob" || !(to < output.length)) throw unexpected(`"${oid} ${type}"`.slice(0, 100));
    contents.set(oid, output.subarray(from, to));
    at = to + 1;
  }
  return contents;
};
