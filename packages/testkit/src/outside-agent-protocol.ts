import { z } from "zod";

/** What the process of an outside agent is started with. */
export const outsideAgentOptions = z.object({
  streaming: z.boolean().default(true),
  /** Headers that every request must have, by lower-case name. */
  headers: z.record(z.string(), z.string()).default({}),
  requiredExtension: z.string().optional(),
  /** Further fields of the 1.0 cards. */
  card: z.record(z.string(), z.json()).default({}),
});
export type OutsideAgentOptions = z.input<typeof outsideAgentOptions>;

/** What it tells the test. */
export const fromOutsideAgent = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("ready"), origin: z.string() }),
  z.object({ kind: z.literal("working"), text: z.string(), messageId: z.string(), taskId: z.string() }),
  z.object({ kind: z.literal("canceled"), taskId: z.string() }),
  z.object({
    kind: z.literal("request"),
    method: z.string(),
    path: z.string(),
    headers: z.record(z.string(), z.unknown()),
  }),
]);
export type FromOutsideAgent = z.output<typeof fromOutsideAgent>;
