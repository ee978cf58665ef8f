import { randomText } from "@shaman/kernel";
import { z } from "zod";

/** A wake-up. It holds ids only: what is to be done is in PostgreSQL, and doing it twice must be harmless. */
export type WakeUp = {
  readonly orgId: string;
  /** Adding an id that is still queued changes nothing. */
  readonly jobId: string;
  readonly name: string;
  readonly data: Readonly<Record<string, string | number>>;
  /** 1 (first) to 5. */
  readonly priority: number;
  readonly delayMs?: number;
};

const heard = z.object({
  jobId: z.string(),
  name: z.string(),
  data: z.unknown(),
  /** Of this one time that it was added. */
  mark: z.string(),
});

/** A wake-up as a worker gets to know it. */
export type HeardWakeUp = z.infer<typeof heard> & Pick<WakeUp, "orgId" | "priority">;

export const marked = ({ orgId, jobId, name, data, priority }: WakeUp): HeardWakeUp => ({
  orgId,
  jobId,
  name,
  data,
  priority,
  mark: randomText(10),
});

/** So that one worker does not get what others could begin with. */
export const MAX_TOGETHER = 16;

const jobData = z.object({ wakeUps: z.array(heard) });

/** The job of wake-ups that were added together. A lone one is a job of its own id, so that it can be added but once. */
export const toJob = ([first, ...others]: readonly [HeardWakeUp, ...HeardWakeUp[]]) => ({
  jobId: others.length === 0 ? first.jobId : `${first.jobId}+${others.length}`,
  name: first.name,
  data: { wakeUps: [first, ...others].map(({ jobId, name, data, mark }) => ({ jobId, name, data, mark })) },
});

/** The wake-ups of a job; none where they cannot be read: what they were to wake is found by the sweep. */
export const fromJob = (orgId: string, priority: number, data: unknown): readonly HeardWakeUp[] => {
  const read = jobData.safeParse(data);
  return read.success ? read.data.wakeUps.map((wakeUp) => ({ ...wakeUp, orgId, priority })) : [];
};

const told = heard.extend({ orgId: z.string(), priority: z.int() });

/** A wake-up as text for a channel. */
export const toTold = ({ orgId, jobId, name, data, priority, mark }: HeardWakeUp): string =>
  JSON.stringify({ orgId, jobId, name, data, priority, mark });

/** The wake-up that such a text tells of; nothing where it cannot be read. */
export const fromTold = (text: string): HeardWakeUp | undefined => {
  try {
    return told.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
};
