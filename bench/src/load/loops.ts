import { setTimeout as sleep } from "node:timers/promises";
import { Pool } from "undici";
import type { Endpoint, LoadJob, Measurement } from "./protocol.ts";
import { countChunks, sendMessage, sendStreamingMessage, type StreamedEvents } from "./send.ts";
import { quantile, summarize } from "./statistics.ts";

type Job<K extends LoadJob["kind"]> = Extract<LoadJob, { kind: K }>;

let lastSerial = 0;
const nextSerial = (): number => (lastSerial += 1);

const withPool = async <T>(endpoint: Endpoint, connections: number, use: (pool: Pool) => Promise<T>): Promise<T> => {
  const pool = new Pool(endpoint.origin, { connections, pipelining: 1, keepAliveTimeout: 60_000 });
  try {
    return await use(pool);
  } finally {
    await pool.close();
  }
};

/** Runs `count` calls, never more than `concurrency` at once: each caller sends its next when it has its answer. */
const runClosed = async (count: number, concurrency: number, call: (index: number) => Promise<void>): Promise<void> => {
  let started = 0;
  const caller = async (): Promise<void> => {
    while (started < count) {
      started += 1;
      await call(started - 1);
    }
  };
  await Promise.all(Array.from({ length: Math.min(concurrency, count) }, caller));
};

/** Closed loop: a fixed number of callers that wait for each answer. */
export const measureClosed = ({ endpoint, concurrency, warmUp, calls }: Job<"closed">): Promise<Measurement> =>
  withPool(endpoint, concurrency, async (pool) => {
    await runClosed(warmUp, concurrency, () => sendMessage(pool, endpoint, nextSerial()));
    const latencies = new Float64Array(calls);
    const begin = performance.now();
    await runClosed(calls, concurrency, async (index) => {
      const sentAt = performance.now();
      await sendMessage(pool, endpoint, nextSerial());
      latencies[index] = performance.now() - sentAt;
    });
    return summarize(latencies, performance.now() - begin);
  });

const OPEN_LOOP_CONNECTIONS = 256;
const WARM_UP_CONCURRENCY = 8;

/**
 * Open loop: calls are due at a fixed rate, whatever became of those before. Latency counts from the moment a call was
 * due, so that a target that falls behind cannot hide it by slowing its callers.
 */
export const measureOpen = ({ endpoint, ratePerSecond, warmUp, calls }: Job<"open">): Promise<Measurement> =>
  withPool(endpoint, OPEN_LOOP_CONNECTIONS, async (pool) => {
    await runClosed(warmUp, WARM_UP_CONCURRENCY, () => sendMessage(pool, endpoint, nextSerial()));
    const latencies = new Float64Array(calls);
    const late = new Float64Array(calls);
    const pending: Promise<void>[] = [];
    const intervalMs = 1_000 / ratePerSecond;
    const begin = performance.now() + intervalMs;
    for (let index = 0; index < calls; index += 1) {
      const dueAt = begin + index * intervalMs;
      const wait = dueAt - performance.now();
      if (wait > 0) await sleep(wait);
      late[index] = performance.now() - dueAt;
      const call = sendMessage(pool, endpoint, nextSerial()).then(() => {
        latencies[index] = performance.now() - dueAt;
      });
      // A failure is reported when all are awaited; until then it must not count as unhandled.
      call.catch(() => {});
      pending.push(call);
    }
    await Promise.all(pending);
    const measurement = summarize(latencies, performance.now() - begin);
    return { ...measurement, sentLateP99Ms: quantile(late.toSorted(), 0.99) };
  });

/** Streams: from sending the message to the end of its events. What came is counted and parsed after the clock stopped. */
export const measureStreams = ({ endpoint, concurrency, warmUp, calls }: Job<"stream">): Promise<Measurement> =>
  withPool(endpoint, concurrency, async (pool) => {
    await runClosed(warmUp, concurrency, async () => void (await sendStreamingMessage(pool, endpoint, nextSerial())));
    const latencies = new Float64Array(calls);
    const first = new Float64Array(calls);
    const streams: StreamedEvents[] = [];
    const begin = performance.now();
    await runClosed(calls, concurrency, async (index) => {
      const sentAt = performance.now();
      const stream = await sendStreamingMessage(pool, endpoint, nextSerial());
      latencies[index] = performance.now() - sentAt;
      first[index] = stream.firstChunkAtMs - sentAt;
      streams.push(stream);
    });
    const measurement = summarize(latencies, performance.now() - begin);
    const counted = streams.map(countChunks);
    const events = counted.map((each) => each.events);
    return {
      ...measurement,
      stream: {
        minChunkEvents: Math.min(...events),
        maxChunkEvents: Math.max(...events),
        characters: Math.min(...counted.map((each) => each.characters)),
        firstChunkP50Ms: quantile(first.toSorted(), 0.5),
      },
    };
  });
