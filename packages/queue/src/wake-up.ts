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

/** A wake-up as a worker gets to know it. */
export type HeardWakeUp = Pick<WakeUp, "orgId" | "jobId" | "name" | "priority"> & { readonly data: unknown };

/** So that one worker does not get what others could begin with. */
export const MAX_TOGETHER = 16;
/** The name of a job of several wake-ups. */
const SEVERAL = "several";

const several = z.object({
  wakeUps: z.array(z.object({ jobId: z.string(), name: z.string(), data: z.unknown() })),
});

type JobContent = Pick<HeardWakeUp, "jobId" | "name" | "data">;

const contentOf = ({ jobId, name, data }: HeardWakeUp): JobContent => ({ jobId, name, data });

/** The job of wake-ups that are added together. A lone one is a job of its own id, so that it is queued but once. */
export const toJob = ([first, ...others]: readonly [HeardWakeUp, ...HeardWakeUp[]]): JobContent => {
  if (others.length === 0) return contentOf(first);
  const wakeUps = [first, ...others].map(contentOf);
  return { jobId: `${SEVERAL}-${randomText(20)}`, name: SEVERAL, data: { wakeUps } };
};

/** The wake-ups of a job; none where they cannot be read: what they were to wake is found by the sweep. */
export const fromJob = (of: Pick<HeardWakeUp, "orgId" | "priority">, job: JobContent): readonly HeardWakeUp[] => {
  if (job.name !== SEVERAL) return [{ ...of, ...job }];
  const read = several.safeParse(job.data);
  return read.success ? read.data.wakeUps.map((wakeUp) => ({ ...of, ...wakeUp })) : [];
};
