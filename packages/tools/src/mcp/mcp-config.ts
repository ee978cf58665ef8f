import { defineConfig } from "@shaman/config";
import { z } from "zod";
import { DEFAULT_MCP_LIMITS, type McpLimits } from "./mcp-limits.ts";

const whole = (fallback: number, range: { readonly min: number; readonly max: number }) => {
  const error = `must be a whole number from ${range.min} to ${range.max}`;
  return z.coerce.number(error).int(error).min(range.min, error).max(range.max, error).default(fallback);
};

const SECOND_MS = 1_000;

/** How far MCP servers may go, for the process that runs agents. */
export const mcpConfig = defineConfig(
  {
    MCP_MAX_OUTPUT_BYTES: {
      schema: whole(DEFAULT_MCP_LIMITS.maxOutputBytes, { min: 1_024, max: 1_048_576 }),
      about: "how much text a tool may hand to a model; the rest is cut off and said to be",
    },
    MCP_SILENCE_TIMEOUT_SECONDS: {
      schema: whole(DEFAULT_MCP_LIMITS.silenceTimeoutMs / SECOND_MS, { min: 1, max: 3_600 }),
      about: "how long an MCP server may say nothing while a tool works; progress counts",
    },
    MCP_CALL_TIMEOUT_SECONDS: {
      schema: whole(DEFAULT_MCP_LIMITS.callTimeoutMs / SECOND_MS, { min: 1, max: 86_400 }),
      about: "how long one call of a tool may take in all",
    },
  },
  (values): McpLimits => ({
    ...DEFAULT_MCP_LIMITS,
    maxOutputBytes: values.MCP_MAX_OUTPUT_BYTES,
    silenceTimeoutMs: values.MCP_SILENCE_TIMEOUT_SECONDS * SECOND_MS,
    callTimeoutMs: values.MCP_CALL_TIMEOUT_SECONDS * SECOND_MS,
  }),
);
