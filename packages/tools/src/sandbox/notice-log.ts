import type { Readable } from "node:stream";

/** What a program wrote to its standard error, for people. */
export type NoticeLog = { readonly lastLine: () => string | undefined };

const MAX_LINE_CHARS = 500;
const MAX_LINES = 200;
/** Beyond this many bytes a second nothing is read, and the program waits to write. */
const BYTES_A_SECOND = 256 * 1024;
const SECOND_MS = 1_000;

/** No colours, no cursor movements, no half characters: what is left is one line of text. */
const printable = (text: string): string =>
  text
    .toWellFormed()
    .replace(/[\p{C}\p{Zl}\p{Zp}]+/gu, " ")
    .trim();

/**
 * Reads a stream of lines for as long as it lasts, at a bounded pace, and hands over the first `MAX_LINES`, each cut to
 * `MAX_LINE_CHARS`. What is beyond is read and forgotten, so that a program that only complains can still end.
 */
export const createNoticeLog = (stream: Readable, onLine?: (line: string) => void): NoticeLog => {
  let line = "";
  let lines = 0;
  let last: string | undefined;
  let readThisSecond = 0;
  let resume: NodeJS.Timeout | undefined;

  const endLine = (): void => {
    const text = printable(line);
    line = "";
    if (text === "") return;
    last = text;
    lines += 1;
    if (lines <= MAX_LINES) onLine?.(text);
    if (lines === MAX_LINES) onLine?.("(more was written and is not kept)");
  };
  const slowDown = (bytes: number): void => {
    readThisSecond += bytes;
    if (readThisSecond < BYTES_A_SECOND || resume !== undefined) return;
    stream.pause();
    resume = setTimeout(() => {
      resume = undefined;
      readThisSecond = 0;
      stream.resume();
    }, SECOND_MS);
  };

  stream.setEncoding("utf8");
  stream.on("data", (chunk: string) => {
    slowDown(chunk.length);
    if (lines > MAX_LINES) return;
    const [first = "", ...rest] = chunk.split("\n", MAX_LINES + 2);
    line = (line + first).slice(0, MAX_LINE_CHARS);
    for (const next of rest) {
      endLine();
      line = next.slice(0, MAX_LINE_CHARS);
    }
  });
  stream.once("close", () => {
    clearTimeout(resume);
    endLine();
  });
  return { lastLine: () => last ?? (printable(line) || undefined) };
};
