/** A problem whose message is a sentence for the person at the keyboard. */
export class Sentence extends Error {}

/** What went wrong, by what the system or a package manager calls it, and what to do about it. */
/** @type {readonly (readonly [RegExp, string])[]} */
const CAUSES = [
  [/ENOSPC|no space left/i, "The disk is full: free some space (about 1.5 GB are needed) and start again."],
  [/EDQUOT|quota exceeded/i, "Your disk quota is used up: free some space (about 1.5 GB are needed) and start again."],
  [
    /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|dns error|error sending request|network (?:error|is unreachable)/i,
    "The package registry could not be reached: the first start needs a network (later ones do not). Check the connection or the proxy settings of npm, and start again.",
  ],
  [
    /SELF_SIGNED|UNABLE_TO_(?:GET|VERIFY)|CERT_|certificate/i,
    "The package registry's certificate is not trusted here: set npm's `cafile` to your company's certificate, and start again.",
  ],
  [
    /OUTDATED_LOCKFILE|lockfile is not up to date|frozen-lockfile/i,
    "A package.json was changed without pnpm-lock.yaml: run `.shaman/tools/node_modules/.bin/pnpm install` once.",
  ],
  [
    /EACCES|EPERM|EROFS|permission denied|read-only file system/i,
    "This folder, or the package cache in your home folder, may not be written by you: start as the user who owns it, or clone the project again.",
  ],
  [
    /UNSUPPORTED_PLATFORM|no prebuilt binary|EBADPLATFORM/i,
    `There are no packages for this machine (${process.platform} ${process.arch}): use Linux with glibc or macOS, on x64 or arm64.`,
  ],
];

/** @param {string} text */
export const explain = (text) => CAUSES.find(([pattern]) => pattern.test(text))?.[1];

/**
 * Ends the process with status 1 after a sentence that says what to do.
 * @param {unknown} error
 * @param {string} root
 * @returns {never}
 */
export const stopWithSentence = (error, root) => {
  const text = error instanceof Error ? error.message : String(error);
  const sentence = error instanceof Sentence ? text : (explain(text) ?? `Setting up in ${root} failed: ${text}`);
  console.error(`\n${sentence}`);
  process.exit(1);
};
