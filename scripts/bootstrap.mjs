import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { whileLocked } from "./bootstrap/lock.mjs";
import { assertNodeIsNewEnough, findNode } from "./bootstrap/node-versions.mjs";
import { installPackages } from "./bootstrap/pnpm.mjs";
import { stopWithSentence } from "./bootstrap/sentence.mjs";

export const root = dirname(dirname(fileURLToPath(import.meta.url)));
const state = join(root, ".shaman");
const stampFile = join(state, "installed");

/** The manifests of all rooms, as pnpm-workspace.yaml names their folders. */
const manifests = () => {
  const workspace = readFileSync(join(root, "pnpm-workspace.yaml"), "utf8");
  const list = /^packages:\n((?: +- .*\n)+)/m.exec(workspace)?.[1] ?? "";
  const patterns = [...list.matchAll(/- "?([^"\n]+)"?/g)].map(([, pattern = ""]) => pattern);
  const folders = patterns.flatMap((pattern) => {
    if (!pattern.endsWith("/*")) return [pattern];
    const parent = pattern.slice(0, -2);
    return existsSync(join(root, parent)) ? readdirSync(join(root, parent)).map((name) => `${parent}/${name}`) : [];
  });
  return folders.map((folder) => `${folder}/package.json`).filter((path) => existsSync(join(root, path)));
};

/** Changes whenever `pnpm install` would have something to do. */
const fingerprint = () => {
  const hash = createHash("sha256").update(`${root}\n${process.platform} ${process.arch}\n`);
  for (const path of ["package.json", "pnpm-workspace.yaml", "pnpm-lock.yaml", ...manifests().toSorted()]) {
    hash.update(`${path}\n`).update(readFileSync(join(root, path)));
  }
  return hash.digest("hex");
};

const isInstalled = () =>
  existsSync(stampFile) &&
  existsSync(join(root, "node_modules", ".modules.yaml")) &&
  readFileSync(stampFile, "utf8") === fingerprint();

/**
 * Makes sure that everything the project needs is installed, and gives the path of the Node 24 to go on with. A warm call
 * does nothing and needs no network. What it has to say goes to standard error; where it cannot go on, it ends the
 * process with a sentence that says what to do.
 * @returns {Promise<string>}
 */
export const bootstrap = async () => {
  try {
    assertNodeIsNewEnough();
    mkdirSync(state, { recursive: true });
    if (!isInstalled()) {
      await whileLocked(join(state, "bootstrap.lock"), async () => {
        if (isInstalled()) return;
        await installPackages({ root, tools: join(state, "tools") });
        writeFileSync(stampFile, fingerprint());
      });
    }
    return findNode(root);
  } catch (error) {
    return stopWithSentence(error, root);
  }
};
