import { parseArgs } from "node:util";
import { z } from "zod";
import { PARTS, TARGETS } from "./backend-run.ts";

export const USAGE = `npm run bench -- [flags]
  --only redis|postgres       one BullMQ backend
  --parts calls,memory,…      of ${PARTS.join(", ")}
  --targets shaman,lean,…     of ${TARGETS.join(", ")}
  --quick                     a minute or two, to see that everything works; its figures mean little
A run of everything writes bench/results/latest.json, any other one bench/results/partial.json.`;

const list = <const T extends readonly [string, ...string[]]>(names: T) =>
  z
    .string()
    .default(names.join(","))
    .transform((text) => text.split(","))
    .pipe(z.array(z.enum(names)).min(1));

const flagsSchema = z
  .object({
    only: z.enum(["redis", "postgres"]).optional(),
    parts: list(PARTS),
    targets: list(TARGETS),
    quick: z.boolean().default(false),
    help: z.boolean().default(false),
  })
  .transform((flags) => ({
    ...flags,
    backends: flags.only === undefined ? (["redis", "postgres"] as const) : [flags.only],
    complete:
      flags.only === undefined &&
      !flags.quick &&
      flags.parts.length === PARTS.length &&
      flags.targets.length === TARGETS.length,
  }));

export type Flags = z.output<typeof flagsSchema>;

/** Reads the command line; throws an error that says what is wrong. */
export const readFlags = (args: readonly string[]): Flags => {
  const { values } = parseArgs({
    args: [...args],
    options: {
      only: { type: "string" },
      parts: { type: "string" },
      targets: { type: "string" },
      quick: { type: "boolean" },
      help: { type: "boolean" },
    },
  });
  const parsed = flagsSchema.safeParse(values);
  if (!parsed.success) throw new Error(z.prettifyError(parsed.error));
  return parsed.data;
};
