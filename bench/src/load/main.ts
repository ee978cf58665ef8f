import { measureClosed, measureOpen, measureStreams } from "./loops.ts";
import { loadJobSchema, type LoadJob, type LoadReply, type Measurement } from "./protocol.ts";

/** The load generator: a process of its own that takes one job after the other from the bench. */
const measure = (job: LoadJob): Promise<Measurement> => {
  switch (job.kind) {
    case "closed":
      return measureClosed(job);
    case "open":
      return measureOpen(job);
    case "stream":
      return measureStreams(job);
  }
};

const reply = (answer: LoadReply): void => void process.send?.(answer);

process.on("message", (message) => {
  measure(loadJobSchema.parse(message)).then(
    (measurement) => reply({ ok: true, measurement }),
    (error: unknown) => reply({ ok: false, error: error instanceof Error ? error.message : String(error) }),
  );
});
process.on("disconnect", () => process.exit(0));
