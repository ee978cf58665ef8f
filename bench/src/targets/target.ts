import type { Endpoint } from "../load/protocol.ts";
import type { RunningProcess } from "../processes.ts";

export type Backend = "redis" | "postgres";

export type Connections = { readonly postgres: number; readonly redis: number };

/** One system under load: where to send calls, and which processes do the work. */
export type Target = {
  readonly name: string;
  /** The agent behind it answers any prompt at once, and streams for those of `streamPrompt`. */
  readonly endpoint: Endpoint;
  readonly processes: readonly RunningProcess[];
  /** Connections of this target's processes to its own database and its own Redis, now. */
  readonly countConnections: () => Promise<Connections>;
  readonly stop: () => Promise<void>;
};

/** Stops processes in the given order, the entrance first, each after the one before is gone. */
export const stopAll = async (processes: readonly { readonly stop: () => Promise<void> }[]): Promise<void> => {
  for (const each of processes) await each.stop();
};

export const ANSWER_PROMPT = "check the stock of part 4711";
export const ANSWER_TEXT = `Done: ${ANSWER_PROMPT}`;

export const CHUNK_TEXT = "another word ";

export type StreamShape = { readonly chunks: number; readonly delayMs: number };

/** The streams that are measured: at once and 5 ms apart. */
export const STREAM_SHAPES: readonly StreamShape[] = [
  { chunks: 100, delayMs: 0 },
  { chunks: 400, delayMs: 0 },
  { chunks: 100, delayMs: 5 },
  { chunks: 400, delayMs: 5 },
];

/** The prompt that makes an agent stream that many chunks; the period ends it, so that none contains another. */
export const streamPrompt = ({ chunks, delayMs }: StreamShape): string =>
  `stream ${chunks} chunks ${delayMs} ms apart.`;
