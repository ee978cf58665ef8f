import type { ToolNotice } from "@shaman/tools";

const MAX_WAITING = 50;
const MAX_NOTICES = 500;
const MAX_MESSAGE_CHARS = 1_000;

export type NoticePipe = {
  readonly push: (notice: ToolNotice) => void;
  readonly close: () => void;
  readonly notices: () => AsyncGenerator<ToolNotice, void, undefined>;
};

/**
 * Carries what a running tool tells to whoever reads, in bounds: a tool that tells more than anybody takes loses its
 * oldest notices, and after five hundred nobody listens to it any more.
 */
export const createNoticePipe = (): NoticePipe => {
  const waiting: ToolNotice[] = [];
  let closed = false;
  let told = 0;
  let wake = (): void => undefined;
  return {
    push: (notice) => {
      told += 1;
      if (closed || told > MAX_NOTICES) return;
      if (waiting.length >= MAX_WAITING) waiting.shift();
      waiting.push(shorten(notice));
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

const shorten = (notice: ToolNotice): ToolNotice =>
  notice.message !== undefined && notice.message.length > MAX_MESSAGE_CHARS
    ? { ...notice, message: `${notice.message.slice(0, MAX_MESSAGE_CHARS)}…` }
    : notice;
