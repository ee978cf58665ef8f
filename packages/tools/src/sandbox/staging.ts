import { mkdir, stat } from "node:fs/promises";

import { err, ok, type Result } from "@shaman/kernel";

import type { ReadOnlyBind } from "./sandbox-arguments.ts";
import { isReachableByAnyone } from "./outer-user.ts";
import { sandboxError } from "./sandbox-error.ts";
import { findProgram } from "./sandbox-programs.ts";

/** Only root may make it, below a folder that only root may write to; it stays empty outside of private mount namespaces. */
const STAGE = "/run/shaman-sandbox";

/**
 * Runs as root in a mount namespace of its own: shows each given path at a place that anyone can reach, then becomes the
 * unprivileged user and the program. No process stays in between, so that the end of ours still ends the sandbox.
 */
const STAGE_SCRIPT = [
  "stage=$1 mount=$2 setpriv=$3 id=$4 count=$5; shift 5; i=0",
  '"$mount" -t tmpfs -o mode=0755,size=1m tmpfs "$stage" || exit 126',
  'while [ "$i" -lt "$count" ]; do',
  '  if [ -d "$1" ]; then mkdir "$stage/$i"; else : >"$stage/$i"; fi',
  '  "$mount" --bind "$1" "$stage/$i" || exit 126',
  "  shift; i=$((i+1))",
  "done",
  'exec "$setpriv" --reuid="$id" --regid="$id" --clear-groups "$@"',
].join("\n");

export type Staged = { readonly readOnly: readonly ReadOnlyBind[]; readonly prefix: readonly string[] };

/**
 * A checkout below a folder that only root may enter, such as /root, is out of reach for the user a sandbox runs as. Gives
 * the binds to use and the command to put before bubblewrap's; both unchanged and empty where everything can be reached.
 */
export const stageUnreachable = async (
  readOnly: readonly ReadOnlyBind[],
  options: { readonly outerUser: number | undefined; readonly shell: string },
): Promise<Result<Staged>> => {
  const { outerUser, shell } = options;
  if (outerUser === undefined) return ok({ readOnly, prefix: [] });
  const reachable = await Promise.all(readOnly.map(({ from }) => isReachableByAnyone(from)));
  const hidden = readOnly.filter((_, index) => reachable[index] === false);
  if (hidden.length === 0) return ok({ readOnly, prefix: [] });
  const [unshare, mount, setpriv] = await Promise.all(["unshare", "mount", "setpriv"].map((name) => findProgram(name)));
  if (unshare === undefined || mount === undefined || setpriv === undefined) {
    const where = hidden.map(({ from }) => from).join(", ");
    const message = `Only root may reach ${where}, and a sandbox does not run as root: move it to where others may enter.`;
    return err(sandboxError("sandbox_unavailable", message));
  }
  await mkdir(STAGE, { mode: 0o755, recursive: true });
  const { uid: owner } = await stat(STAGE);
  if (owner !== 0) return err(sandboxError("sandbox_unavailable", `${STAGE} does not belong to root.`));
  const sources = hidden.map(({ from }) => from);
  const staging = [unshare, "--mount", "--propagation", "private", "--", shell, "-c", STAGE_SCRIPT, "stage"];
  return ok({
    readOnly: readOnly.map(({ from, to }) => {
      const index = sources.indexOf(from);
      return { from: index === -1 ? from : `${STAGE}/${index}`, to };
    }),
    prefix: [...staging, STAGE, mount, setpriv, String(outerUser), String(sources.length), ...sources],
  });
};
