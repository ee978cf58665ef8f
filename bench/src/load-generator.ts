import { fork } from "node:child_process";
import { once } from "node:events";
import { loadReplySchema, type LoadJob, type Measurement } from "./load/protocol.ts";

export type LoadGenerator = {
  /** Runs one measurement; rejects when any call of it failed. One at a time. */
  readonly measure: (job: LoadJob) => Promise<Measurement>;
  readonly stop: () => void;
};

/** Starts the generator's process. It serves all measurements of a bench, so that its own code is warm for each. */
export const startLoadGenerator = (): LoadGenerator => {
  const child = fork(new URL("load/main.ts", import.meta.url), { stdio: "inherit" });
  const ended = once(child, "exit").then(([code]) => {
    throw new Error(`the load generator ended with code ${String(code)}`);
  });
  ended.catch(() => {});
  return {
    measure: async (job) => {
      const answered = once(child, "message");
      child.send(job);
      const [message] = await Promise.race([answered, ended]);
      const reply = loadReplySchema.parse(message);
      if (!reply.ok) throw new Error(`${job.kind} loop against ${job.endpoint.origin}: ${reply.error}`);
      return reply.measurement;
    },
    stop: () => child.disconnect(),
  };
};
