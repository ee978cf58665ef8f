import { isAbsolute, normalize } from "node:path/posix";

import { z } from "zod";

import { DEFAULT_SANDBOX_LIMITS } from "../sandbox/sandbox-limits.ts";

const MIB = 1024 * 1024;
const MAX_LIST = 64;

const absolutePath = z
  .string({ error: "must be a path" })
  .max(4_096, "must have at most 4096 characters")
  .refine((path) => isAbsolute(path) && normalize(path) === path && !path.includes("\0"), {
    error: "must be an absolute path without . or .. in it",
  });

/** Whole trees that hold what a sandbox is there to keep away, and places inside that are the sandbox's own. */
const NEVER_SHOWN = ["/", "/proc", "/sys", "/dev", "/run", "/etc", "/root", "/home", "/var", "/tmp"];
const OWN_PLACES = ["/proc", "/dev", "/scratch", "/runtime"];

const shownPath = absolutePath.refine((path) => !NEVER_SHOWN.includes(path), {
  error: (issue) => `must not be all of ${String(issue.input)}: name the folders below it that the server needs`,
});
const innerPath = absolutePath.refine(
  (path) => path !== "/" && !OWN_PLACES.some((place) => path === place || path.startsWith(`${place}/`)),
  { error: `must lie neither at / nor below ${OWN_PLACES.join(", ")}, which are the sandbox's own` },
);

const readOnly = z.union(
  [
    shownPath.pipe(innerPath).transform((path) => ({ from: path, to: path })),
    z.strictObject({ from: shownPath, to: innerPath }),
  ],
  { error: (issue) => (typeof issue.input === "string" ? undefined : "must be a path or {from, to}") },
);

const whole = (what: string, min: number, max: number, preset: number) => {
  const error = `must be ${what}: a whole number from ${min} to ${max}`;
  return z.int({ error }).min(min, error).max(max, error).default(preset);
};

const preset = DEFAULT_SANDBOX_LIMITS;

const limits = z
  .strictObject({
    memoryMb: whole("megabytes of memory", 16, 65_536, preset.memoryBytes / MIB),
    cpuSeconds: whole("seconds of processor time", 1, 86_400, preset.cpuSeconds),
    processes: whole("processes and threads", 4, 4_096, preset.processes),
    fileMb: whole("megabytes of one file", 1, 65_536, preset.fileBytes / MIB),
    scratchMb: whole("megabytes of all files", 1, 65_536, preset.scratchBytes / MIB),
    openFiles: whole("open files", 32, 65_536, preset.openFiles),
    wallClockSeconds: whole("seconds from start to end", 1, 604_800, preset.wallClockSeconds),
    outputMb: whole("megabytes of output", 1, 65_536, preset.outputBytes / MIB),
    restarts: whole("restarts a run", 0, 100, 3),
  })
  .transform(({ memoryMb, fileMb, scratchMb, outputMb, restarts, ...rest }) => ({
    restarts,
    sandbox: {
      ...rest,
      memoryBytes: memoryMb * MIB,
      fileBytes: fileMb * MIB,
      scratchBytes: scratchMb * MIB,
      outputBytes: outputMb * MIB,
    },
  }));

const text = (max: number) =>
  z
    .string({ error: "must be a text" })
    .max(max, `must have at most ${max} characters`)
    .refine((value) => !value.includes("\0"), "must not hold NUL");

const variableName = z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/, "must be the name of an environment variable");
const secretName = z
  .string({ error: "must be the name of a value in the secrets file" })
  .regex(/^[A-Za-z0-9_.-]{1,128}$/, "must be the name of a value in the secrets file: letters, digits and _ . -");

const programForm = "must be node, or the absolute path of a program, without . or .. in it";

const entry = z.strictObject({
  description: text(2_000).trim().min(1, "must not be empty"),
  command: z
    .string({ error: programForm })
    .refine((command) => command === "node" || absolutePath.safeParse(command).success, { error: programForm }),
  args: z.array(text(4_096), { error: "must be a list of texts" }).max(MAX_LIST).default([]),
  parameters: z.record(z.string(), z.json(), { error: "must be a JSON Schema: a map" }).default({ type: "object" }),
  mayBeginWithDash: z.array(z.string(), { error: "must be a list of parameters" }).max(MAX_LIST).default([]),
  environment: z.record(variableName, secretName, { error: "must be a map from variable to secret" }).default({}),
  network: z
    .enum(["none", "unfiltered"], {
      error: "must be none, or unfiltered: all that this machine reaches, loopback and metadata addresses included",
    })
    .default("none"),
  readOnly: z.array(readOnly, { error: "must be a list of paths" }).max(MAX_LIST).default([]),
  limits: limits.prefault({}),
});

export type CatalogueFileEntry = z.infer<typeof entry>;

/** The file of `MCP_CATALOGUE`. */
export const catalogueFile = z.strictObject({
  servers: z.record(
    z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, "a server's name must be 1 to 64 letters, digits, - or _"),
    entry,
    { error: "must be a map from a server's name to what it is" },
  ),
});

/** The file of `MCP_CATALOGUE_SECRETS`: values by name. */
export const secretsFile = z.record(
  secretName,
  z.string({ error: "must be a text: put numbers in quotes" }).max(65_536, "must have at most 65536 characters"),
  { error: "must be a map from name to value" },
);

/** Keys of each map, for suggestions. */
export const CATALOGUE_KEYS: Readonly<Record<string, readonly string[]>> = { "": ["servers"] };
export const ENTRY_KEYS = Object.keys(entry.shape);
