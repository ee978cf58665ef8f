import type { ToolNotice } from "@shaman/tools";

const MAX_WAITING = 50;
const MAX_NOTICES = 500;
const MAX_MESSAGE_CHARS = 1_000;

/** Text that is written while somebody watches; `append`: it continues what came before of this artifact. */
export type TextNotice = {
  readonly kind: "text";
  readonly artifact: string;
  readonly message: string;
  readonly append: boolean;
};

export type PipedNotice = ToolNotice | TextNotice;

export type NoticePipe = {
  readonly push: (notice: PipedNotice) => void;
  readonly close: () => void;
  readonly notices: () => AsyncGenerator<PipedNotice, void, undefined>;
};

/**
 * Carries what a running tool tells to whoever reads, in bounds: a tool that tells more than anybody takes loses its
 * oldest notices, and after five hundred nobody listens to it any more. Text is never lost, so that whoever pushes it
 * sees to its bounds; pieces that nobody has taken yet become one.
 */
export const createNoticePipe = (): NoticePipe => {
  const waiting: PipedNotice[] = [];
  let closed = false;
  let told = 0;
  let wake = (): void => undefined;
  const makeRoom = (): void => {
    const oldest = waiting.findIndex(({ kind }) => kind !== "text");
    if (waiting.length >= MAX_WAITING && oldest !== -1) waiting.splice(oldest, 1);
  };
  return {
    push: (notice) => {
      if (closed) return;
      if (notice.kind === "text") addText(waiting, notice);
      else {
        told += 1;
        if (told > MAX_NOTICES) return;
        makeRoom();
        waiting.push(shorten(notice));
      }
      wake();
    },
    close: () => {
      closed = true;
      wake();
    },
    notices: async function* () {
      for (;;) {
        const notice = waiting.shift();
        if (notice !== undefined) yield notice;
        else if (closed) return;
        else {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      }
    },
  };
};

const addText = (waiting: PipedNotice[], notice: TextNotice): void => {
  const last = waiting.at(-1);
  const joins = notice.append && last?.kind === "text" && last.artifact === notice.artifact;
  if (joins) waiting[waiting.length - 1] = { ...last, message: last.message + notice.message };
  else waiting.push(notice);
};

const shorten = (notice: ToolNotice): ToolNotice =>
  notice.message !== undefined && notice.message.length > MAX_MESSAGE_CHARS
    ? { ...notice, message: `${notice.message.slice(0, MAX_MESSAGE_CHARS)}…` }
    : notice;
