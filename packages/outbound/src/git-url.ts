import { realpath } from "node:fs/promises";
import { isAbsolute, relative } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

import { err, ok, type Result } from "@shaman/kernel";

import { addressLiteral } from "./address.ts";
import { portOf, type Guard } from "./guard.ts";
import { outboundRefused } from "./outbound-error.ts";

/** A checked place of a Git repository. */
export type GitRemote =
  | {
      readonly kind: "network";
      /** Normalized: hand this text to Git, not the one that came in. */
      readonly url: string;
      readonly address: string;
      /** For `git -c http.curloptResolve=…`, which pins the name to the checked address; null for an IP literal. */
      readonly curloptResolve: string | null;
    }
  | { readonly kind: "file"; readonly url: string; readonly path: string };

const isBelow = (root: string, path: string): boolean => {
  const way = relative(root, path);
  return way !== "" && way !== ".." && !way.startsWith("../") && !isAbsolute(way);
};

const refusePath = (): Result<never> =>
  err(
    outboundRefused(
      "path",
      "file:// repositories must exist, below the folder for development (GIT_FILE_ROOT; npm start: .shaman/repos).",
    ),
  );

const checkFile = async (text: string, root: string): Promise<Result<GitRemote>> => {
  const url = URL.parse(text);
  if (!url || url.host !== "" || url.search !== "" || url.hash !== "") return refusePath();
  try {
    // Links are resolved first: one below the root may lead out of it.
    const [realRoot, path] = await Promise.all([realpath(root), realpath(fileURLToPath(url))]);
    return isBelow(realRoot, path) ? ok({ kind: "file", url: pathToFileURL(path).href, path }) : refusePath();
  } catch {
    return refusePath();
  }
};

const bracketed = (address: string): string => (address.includes(":") ? `[${address}]` : address);

/**
 * Checks the address of a Git remote: https (http where the guard allows it), or `file://` below `fileRoot`. Everything
 * else that Git understands (`ssh:`, `git:`, `ext::`, `host:path`, local paths) is refused.
 */
export const checkGitUrl = async (
  deps: { readonly guard: Guard; readonly fileRoot: string | undefined },
  text: string,
): Promise<Result<GitRemote>> => {
  if (/^file:/i.test(text)) {
    return deps.fileRoot === undefined
      ? err(outboundRefused("scheme", "file:// repositories are only allowed in development: use https://."))
      : checkFile(text, deps.fileRoot);
  }
  if (!/^https?:\/\//i.test(text)) {
    return err(outboundRefused("scheme", "A repository's address must begin with https://."));
  }
  const checked = await deps.guard.checkUrl(text);
  if (!checked.ok) return checked;
  const { url, addresses } = checked.value;
  // IPv4 first: libcurl without IPv6 would fail on the other.
  const address = addresses.find((candidate) => !candidate.includes(":")) ?? addresses[0];
  if (address === undefined || url.search !== "" || url.hash !== "") {
    return err(outboundRefused("invalid_url", "A repository's address must not hold a query or a fragment."));
  }
  const pin = `${url.hostname}:${portOf(url)}:${bracketed(address)}`;
  return ok({
    kind: "network",
    url: url.href,
    address,
    curloptResolve: addressLiteral(url.hostname) === undefined ? pin : null,
  });
};
