import { healthRoutes } from "@shaman/telemetry";
import { fastify } from "fastify";
import { readWorkerConfig } from "./config.ts";
import { startWorker } from "./worker.ts";

const config = readWorkerConfig();
if (!config.ok) {
  for (const problem of config.error) console.error(`worker: ${problem}`);
  process.exit(1);
}

const worker = await startWorker(config.value);
let ready = true;
const app = fastify({ logger: false });
await app.register(healthRoutes({ checks: worker.checks, isReady: () => ready, metrics: worker.metrics }));
await app.listen({ host: config.value.worker.listenHost, port: config.value.worker.healthPort });
worker.log.info("ready", { port: config.value.worker.healthPort });

const stop = async (signal: string): Promise<void> => {
  if (!ready) return;
  ready = false;
  worker.log.info("stopping", { signal });
  await worker.stop();
  await app.close();
};
process.on("SIGTERM", () => void stop("SIGTERM"));
process.on("SIGINT", () => void stop("SIGINT"));
