import type { JsonObject } from "@shaman/kernel";
import { z } from "zod";

/** The extension under which a message says how many calls deep its receiver may still go. */
const CALLS_EXTENSION = "urn:shaman:a2a:calls:v1";

const allowance = z.object({ [CALLS_EXTENSION]: z.object({ maxDepth: z.int().min(0) }) });

/** A message's metadata for an agent that may go so many calls deep. */
export const callDepthMetadata = (maxDepth: number): JsonObject => ({ [CALLS_EXTENSION]: { maxDepth } });

/**
 * How deep an agent with its own limit may call for a message (A2A Message): no deeper than its sender lets it, if that
 * says so. Else two agents of this installation, or of two, that call each other from outside would have a depth of their
 * own at each call, and no end.
 */
export const allowedCallDepth = ({ metadata }: JsonObject, own: number): number =>
  Math.min(own, allowance.safeParse(metadata).data?.[CALLS_EXTENSION].maxDepth ?? Infinity);
