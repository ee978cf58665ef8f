import type { Failure, Suspension } from "./engine-event.ts";

/** Ends the run as failed; thrown inside the loop only, so that every depth of it can stop. */
export class RunFailed extends Error {
  readonly failure: Failure;
  constructor(failure: Failure) {
    super(failure.message);
    this.failure = failure;
  }
}

/** The run goes on another time; thrown inside the loop only. */
export class RunSuspended extends Error {
  readonly suspension: Suspension;
  constructor(suspension: Suspension) {
    super(`suspended: ${suspension.kind}`);
    this.suspension = suspension;
  }
}

/**
 * The attempt cannot go on, and nobody can say how far it came: its stream ends without an end of the task, and the next
 * attempt begins with what is recorded.
 */
export class BrokenOff extends Error {
  constructor(cause: unknown) {
    super("The attempt was broken off", { cause });
  }
}
