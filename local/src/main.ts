import { dirname } from "node:path";
import { toAppError } from "@shaman/kernel";
import { readLocalConfig } from "./config.ts";
import { createLauncher } from "./launcher.ts";
import { createLineLog } from "./line-log.ts";
import { readPorts } from "./ports.ts";

const root = dirname(dirname(import.meta.dirname));

const endWith = (sentences: readonly string[]): never => {
  for (const sentence of sentences) console.error(sentence);
  process.exit(1);
};

/** Calls `stop` once for whichever comes first: a signal, the message of the script that started us, or its end. */
const onStopRequest = (stop: () => void): void => {
  let asked = false;
  const once = (): void => {
    if (!asked) stop();
    asked = true;
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, once);
  process.on("message", once);
  process.on("disconnect", once);
};

const main = async (): Promise<void> => {
  const log = createLineLog((text) => process.stdout.write(text));
  const ports = readPorts(process.argv.slice(2));
  if (!ports.ok) return endWith([ports.error.message]);
  const { config, env } = readLocalConfig();
  if (!config.ok) return endWith(config.error);
  const launcher = createLauncher({ root, ports: ports.value, config: config.value, env, log });
  let stopping = false;
  onStopRequest(() => {
    stopping = true;
    log("shaman", "Stopping …");
    void launcher.stop().then(
      () => process.exit(0),
      (error: unknown) => endWith([toAppError(error).message]),
    );
  });
  try {
    await launcher.start();
  } catch (error) {
    if (stopping) return;
    await launcher.stop();
    endWith(["", toAppError(error).message]);
  }
};

await main().catch((error: unknown) => endWith([toAppError(error).message]));
