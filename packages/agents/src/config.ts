import { isAbsolute, resolve } from "node:path";

import { defineConfig } from "@shaman/config";
import { z } from "zod";

import { MAXIMUM_LIMITS, type CompleteLimits } from "./definition/agent-limits.ts";

const NAMES = Object.keys(MAXIMUM_LIMITS);

/** `maxSteps=200,maxCostUsd=50`: what is not named keeps the product's own maximum. */
const parseLimits = (text: string, context: z.RefinementCtx): CompleteLimits => {
  const limits: Record<string, number> = {};
  for (const part of text.split(",").map((each) => each.trim())) {
    const [name = "", value = ""] = part.split("=");
    const number = Number(value);
    if (!NAMES.includes(name) || value === "" || !(number > 0)) {
      context.addIssue({
        code: "custom",
        message: `must be a list such as maxSteps=200,maxCostUsd=50 of ${NAMES.join(", ")}`,
      });
      return MAXIMUM_LIMITS;
    }
    limits[name] = number;
  }
  return { ...MAXIMUM_LIMITS, ...limits };
};

/** Where repositories are copied to, and what their agents may ask for. */
export const agentsConfig = defineConfig(
  {
    GIT_CACHE_DIR: {
      schema: z.string().default(".shaman/git"),
      about: "folder for the worker's bare copies of repositories; they can be deleted at any time",
    },
    GIT_PROGRAM: {
      schema: z
        .string()
        .refine((path) => isAbsolute(path), "must be an absolute path")
        .optional(),
      about: "the git program, where it is in none of the usual folders",
    },
    GIT_FILE_ROOT: {
      schema: z.string().optional(),
      about: "folder below which file:// repositories are allowed; for development, default none",
    },
    AGENT_MAX_LIMITS: {
      schema: z.string().transform(parseLimits).optional(),
      about: "the most an agent file's limits may ask for, such as maxSteps=200,maxCostUsd=50",
    },
  },
  (values) => ({
    cacheDir: resolve(values.GIT_CACHE_DIR),
    gitProgram: values.GIT_PROGRAM,
    gitFileRoot: values.GIT_FILE_ROOT === undefined ? undefined : resolve(values.GIT_FILE_ROOT),
    maximumLimits: values.AGENT_MAX_LIMITS ?? MAXIMUM_LIMITS,
  }),
);
