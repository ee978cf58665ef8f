import { spawn } from "node:child_process";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { delimiter, join } from "node:path";
import { bootstrap, root } from "./bootstrap.mjs";
import { countTests } from "./test-count.mjs";

/**
 * `npm test` checks everything; `npm test -- <words>` hands the words to vitest and runs only that.
 * @typedef {{ readonly title: string, readonly command: readonly string[] }} Step
 */

const resultsFile = join(root, ".shaman", "test-results.json");
const vitest = ["vitest", "run", "--reporter=default", "--reporter=json", `--outputFile.json=${resultsFile}`];

/** @type {readonly Step[]} */
const CHECKS = [
  { title: "Lint and import law (oxlint)", command: ["oxlint"] },
  { title: "Format (oxfmt)", command: ["oxfmt", "--check", "."] },
  { title: "Unused files and dependencies (knip)", command: ["knip"] },
  { title: "Workspace (sherif)", command: ["sherif"] },
  { title: "Types (tsc)", command: ["tsc", "--noEmit", "-p", "tsconfig.json"] },
];

/**
 * @param {string} node
 * @param {readonly string[]} command
 * @returns {Promise<number | null>}
 */
const run = (node, [tool = "", ...args]) => {
  const bin = join(root, "node_modules", ".bin");
  const child = spawn(join(bin, tool), args, {
    cwd: root,
    stdio: ["ignore", "inherit", "inherit"],
    // The tools' start scripts ask for `node`: it must be the 24 of this project.
    env: { ...process.env, PATH: [join(node, ".."), bin, process.env.PATH ?? ""].join(delimiter) },
  });
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", resolve);
  });
};

const readResults = () => {
  try {
    return JSON.parse(readFileSync(resultsFile, "utf8"));
  } catch {
    // vitest ended before it could write its results; its status says so too.
    return undefined;
  }
};

const main = async () => {
  const node = await bootstrap();
  const words = process.argv.slice(2);
  mkdirSync(join(root, ".shaman"), { recursive: true });
  rmSync(resultsFile, { force: true });
  /** @type {string[]} */
  const failed = [];
  const steps = [...(words.length === 0 ? CHECKS : []), { title: "Tests (vitest)", command: [...vitest, ...words] }];
  for (const [index, { title, command }] of steps.entries()) {
    console.log(`\n── ${index + 1}/${steps.length} ${title} ──`);
    if ((await run(node, command)) !== 0) failed.push(title);
  }
  const testsFailed = failed.includes("Tests (vitest)");
  const counts = countTests(readResults(), { testsFailed, checksFailed: failed.length - (testsFailed ? 1 : 0) });
  if (failed.length > 0) console.log(`\nNot everything is in order; see above: ${failed.join(", ")}.`);
  else console.log("\nEverything is in order.");
  console.log(`${counts.passed} passed, ${counts.failed} failed`);
  process.exitCode = failed.length > 0 ? 1 : 0;
};

await main();
