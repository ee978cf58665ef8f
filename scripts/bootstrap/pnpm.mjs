import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { explain, Sentence } from "./sentence.mjs";

const TAIL_CHARS = 4_000;

/**
 * Runs a program with its output passed on to standard error.
 * @param {string} program
 * @param {{ args: readonly string[], cwd: string, env?: Readonly<Record<string, string>> }} options
 * @returns {Promise<{ status: number | null, output: string }>}
 */
const run = (program, { args, cwd, env }) =>
  new Promise((resolve, reject) => {
    const windowsShell = process.platform === "win32" && program === "npm";
    const child = spawn(program, args, {
      cwd,
      env: { ...process.env, ...env },
      shell: windowsShell,
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (chunk) => {
        process.stderr.write(chunk);
        output = (output + String(chunk)).slice(-TAIL_CHARS);
      });
    }
    child.once("error", reject);
    child.once("close", (status) => resolve({ status, output }));
  });

/** @param {string} root */
const wantedVersion = (root) => {
  const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  return String(manifest.devEngines.packageManager.version);
};

/** @param {string} file */
const installedVersion = (file) => (existsSync(file) ? JSON.parse(readFileSync(file, "utf8")).version : undefined);

/**
 * @param {string} tools
 * @param {string} version
 */
const installPnpm = async (tools, version) => {
  console.error(`Installing pnpm ${version} into .shaman/tools …`);
  mkdirSync(tools, { recursive: true });
  const args = [
    "install",
    "--prefix",
    tools,
    "--no-audit",
    "--no-fund",
    "--no-update-notifier",
    "--loglevel=error",
    `pnpm@${version}`,
  ];
  const npm = process.env.npm_execpath;
  const result = await (
    npm?.endsWith(".js")
      ? run(process.execPath, { args: [npm, ...args], cwd: tools })
      : run("npm", { args, cwd: tools })
  ).catch(() => {
    throw new Sentence("npm was not found: install Node together with npm (https://nodejs.org) and start again.");
  });
  if (result.status === 0) return;
  throw new Sentence(explain(result.output) ?? "npm could not install pnpm; its own words are above.");
};

/**
 * Installs pnpm beside the project, and with it exactly the packages of the lockfile.
 * @param {{ root: string, tools: string }} places
 */
export const installPackages = async ({ root, tools }) => {
  const version = wantedVersion(root);
  const home = join(tools, "node_modules", "pnpm");
  if (installedVersion(join(home, "package.json")) !== version) await installPnpm(tools, version);
  console.error("Installing packages; the first time takes a minute or two …");
  // The package's script form finds the native program itself, also where npm runs no install scripts.
  const args = [join(home, "bin", "pnpm.mjs"), "install", "--frozen-lockfile", "--reporter=append-only"];
  const result = await run(process.execPath, {
    args,
    cwd: root,
    // An earlier install left Node 24; CI keeps pnpm from asking questions that nobody may be there to answer.
    env: { CI: "true", PATH: `${join(root, "node_modules", ".bin")}${delimiter}${process.env.PATH ?? ""}` },
  });
  if (result.status === 0) return;
  throw new Sentence(explain(result.output) ?? "Installing the packages failed; pnpm's own words are above.");
};
