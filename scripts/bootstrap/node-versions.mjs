import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { Sentence } from "./sentence.mjs";

const OLDEST_TO_BEGIN_WITH = 20;
const NEEDED = 24;

const majorOf = (/** @type {string} */ version) => Number(/^v?(\d+)/.exec(version)?.[1] ?? 0);

/** Ends everything with a sentence when the Node that runs this is too old even to begin with. */
export const assertNodeIsNewEnough = () => {
  if (majorOf(process.versions.node) >= OLDEST_TO_BEGIN_WITH) return;
  throw new Sentence(
    `Node ${process.versions.node} is too old: install Node ${OLDEST_TO_BEGIN_WITH} or newer (https://nodejs.org) and start again.`,
  );
};

/**
 * The Node 24 that was installed with the packages, or the running one when it is as new.
 * @param {string} root
 */
export const findNode = (root) => {
  const installed = join(root, "node_modules", ".bin", process.platform === "win32" ? "node.exe" : "node");
  const answer = spawnSync(installed, ["--version"], { encoding: "utf8" });
  if (answer.status === 0 && majorOf(answer.stdout) >= NEEDED) return installed;
  if (majorOf(process.versions.node) >= NEEDED) return process.execPath;
  throw new Sentence(
    `The Node ${NEEDED} from the package registry does not run on this machine (${process.platform} ${process.arch}): install Node ${NEEDED} yourself and start again.`,
  );
};
