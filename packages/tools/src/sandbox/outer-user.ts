import { randomInt } from "node:crypto";
import { stat } from "node:fs/promises";
import { dirname } from "node:path";

/**
 * Numbers that Linux distributions, systemd and container tools leave alone (systemd's "Users, Groups, UIDs and GIDs").
 * One is drawn for each sandbox, so that no two share a user, nor what the kernel counts for one.
 */
const FIRST_FREE_ID = 1_879_048_192;
const LAST_FREE_ID = 2_147_352_575;

/** As root a sandbox gets a user id of its own; otherwise it stays with the one we have, in a user namespace. */
export const drawOuterUser = (): number | undefined =>
  process.getuid?.() === 0 ? randomInt(FIRST_FREE_ID, LAST_FREE_ID + 1) : undefined;

const OTHERS_MAY_ENTER = 0o001;

/** Whether a user who owns nothing here gets as far as this path. */
export const isReachableByAnyone = async (path: string): Promise<boolean> => {
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    const { mode } = await stat(folder);
    if ((mode & OTHERS_MAY_ENTER) === 0) return false;
    if (folder === "/") return true;
  }
};
