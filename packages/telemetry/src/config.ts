import { defineConfig } from "@shaman/config";
import { z } from "zod";

const LEVELS = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;

/** How much a process logs. */
export const logConfig = defineConfig(
  {
    LOG_LEVEL: {
      schema: z.enum(LEVELS, `must be one of ${LEVELS.join(", ")}`).default("info"),
      about: `how much is logged: ${LEVELS.join(", ")}`,
    },
  },
  (env) => ({ level: env.LOG_LEVEL }),
);
