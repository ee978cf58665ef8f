import type { Readable } from "node:stream";

import { READY } from "./sandbox-arguments.ts";

/**
 * Waits for the word that the script inside says first. The program writes nothing before it gets ours, so that nothing of
 * it is lost. Rejects when the output ends instead: there is no sandbox then.
 */
export const untilReady = (stdout: Readable): Promise<void> =>
  new Promise((resolve, reject) => {
    const settle = (end: () => void): void => {
      stdout.off("readable", onReadable);
      stdout.off("close", onClose);
      stdout.off("end", onClose);
      end();
    };
    const onClose = (): void => settle(() => reject(new Error("it ended before it began")));
    const onReadable = (): void => {
      const word: unknown = stdout.read(READY.length);
      if (word === null) return;
      const isReady = Buffer.isBuffer(word) && word.toString("latin1") === READY;
      settle(() => (isReady ? resolve() : reject(new Error("it began with a stray word"))));
    };
    stdout.on("readable", onReadable);
    stdout.once("close", onClose);
    stdout.once("end", onClose);
  });
