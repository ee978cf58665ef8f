import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

const POLL_MS = 300;

/** @param {unknown} error */
const codeOf = (error) => (error instanceof Error && "code" in error ? error.code : undefined);

/** @param {string} file */
const take = (file) => {
  try {
    writeFileSync(file, String(process.pid), { flag: "wx" });
    return true;
  } catch (error) {
    if (codeOf(error) !== "EEXIST") throw error;
    return false;
  }
};

/** @param {string} file */
const isHeld = (file) => {
  try {
    process.kill(Number(readFileSync(file, "utf8")), 0);
    return true;
  } catch (error) {
    return codeOf(error) === "EPERM";
  }
};

/**
 * Does the work while no other process of this checkout does; a lock whose holder died is taken over.
 * @param {string} file
 * @param {() => Promise<void>} work
 */
export const whileLocked = async (file, work) => {
  for (let told = false; !take(file); await sleep(POLL_MS)) {
    if (!isHeld(file)) {
      rmSync(file, { force: true });
      continue;
    }
    if (!told) console.error("Another start of this checkout is installing packages; waiting for it.");
    told = true;
  }
  try {
    await work();
  } finally {
    rmSync(file, { force: true });
  }
};
