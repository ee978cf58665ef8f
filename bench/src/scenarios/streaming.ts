import type { LoadGenerator } from "../load-generator.ts";
import type { Measurement } from "../load/protocol.ts";
import type { Plan } from "../plan.ts";
import { CHUNK_TEXT, STREAM_SHAPES, streamPrompt, type StreamShape, type Target } from "../targets/target.ts";

/** Figures of one stream shape, a measurement a round. */
export type StreamRounds = { readonly shape: StreamShape; readonly rounds: readonly Measurement[] };

const WARM_UP_STREAMS = 2;

const measureShape = async (
  generator: LoadGenerator,
  target: Target,
  { shape, streams }: { readonly shape: StreamShape; readonly streams: number },
): Promise<Measurement> => {
  const measurement = await generator.measure({
    kind: "stream",
    endpoint: { ...target.endpoint, prompt: streamPrompt(shape) },
    concurrency: 1,
    warmUp: shape.delayMs > 0 ? 0 : WARM_UP_STREAMS,
    calls: streams,
  });
  const expected = shape.chunks * CHUNK_TEXT.length;
  const characters = measurement.stream?.characters;
  if (characters !== expected) {
    throw new Error(`${target.name}: a stream of ${shape.chunks} chunks held ${characters} of ${expected} characters`);
  }
  return measurement;
};

/**
 * Streams of 100 and 400 chunks, at once and 5 ms apart, one after the other. The events that came are counted; the text
 * in them must be complete. The shapes take turns, so that drift of the machine touches both sides of their ratio.
 */
export const measureStreaming = async (
  { generator }: { readonly generator: LoadGenerator },
  target: Target,
  { plan, rounds: count }: { readonly plan: Plan; readonly rounds: number },
): Promise<readonly StreamRounds[]> => {
  const results = STREAM_SHAPES.map((shape): { shape: StreamShape; rounds: Measurement[] } => ({ shape, rounds: [] }));
  for (let round = 0; round < count; round += 1) {
    for (const { shape, rounds } of results) {
      const streams = shape.delayMs > 0 ? plan.slowStreams : plan.streams;
      rounds.push(await measureShape(generator, target, { shape, streams }));
    }
  }
  return results;
};
