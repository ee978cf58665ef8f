import type { JsonObject } from "@shaman/kernel";
import { z } from "zod";

const whole = (range: { min: number; max: number; standard: number }) => {
  const refusal = `must be a whole number from ${range.min} to ${range.max}`;
  return z.int(refusal).min(range.min).max(range.max).default(range.standard);
};

const amount = (range: { min: number; max: number }) => {
  const refusal = `must be a number from ${range.min} to ${range.max}`;
  return z.number(refusal).min(range.min).max(range.max);
};

/** What callers may send and hold. A rate of 0 means no limit. */
const intake = z.strictObject({
  requestBodyBytes: whole({ min: 1_024, max: 16_777_216, standard: 1_000_000 }),
  messageParts: whole({ min: 1, max: 1_000, standard: 50 }),
  partBytes: whole({ min: 1, max: 16_777_216, standard: 512_000 }),
  blockingWaitSeconds: whole({ min: 1, max: 3_600, standard: 55 }),
  openStreamsPerCaller: whole({ min: 1, max: 10_000, standard: 50 }),
  keyRatePerSecond: whole({ min: 0, max: 100_000, standard: 100 }),
  organizationRatePerSecond: whole({ min: 0, max: 100_000, standard: 500 }),
  rateBurstFactor: amount({ min: 1, max: 100 }).default(2),
  queuedRuns: whole({ min: 1, max: 10_000_000, standard: 100_000 }),
  runsInFlight: whole({ min: 1, max: 10_000, standard: 50 }),
});

/** What one run may use up; an agent's front matter may ask for less. */
const run = z.strictObject({
  maxSteps: whole({ min: 1, max: 1_000, standard: 30 }),
  maxToolCalls: whole({ min: 0, max: 10_000, standard: 100 }),
  maxDepth: whole({ min: 0, max: 20, standard: 5 }),
  maxTokens: whole({ min: 1, max: 100_000_000, standard: 200_000 }),
  maxCostUsd: amount({ min: 0, max: 10_000 }).default(1),
  timeoutSeconds: whole({ min: 1, max: 86_400, standard: 600 }),
  toolOutputBytes: whole({ min: 1_024, max: 4_194_304, standard: 64_000 }),
  artifactInlineBytes: whole({ min: 1_024, max: 16_777_216, standard: 256_000 }),
  artifactTotalBytes: whole({ min: 1_024, max: 10_000_000_000, standard: 100_000_000 }),
});

/** What happens after a failure that may pass; an agent's front matter may say otherwise. */
const retry = z.strictObject({
  maxAttempts: whole({ min: 1, max: 20, standard: 3 }),
  backoffSeconds: amount({ min: 0, max: 3_600 }).default(2),
});

/** What all runs of the organization together may cost; what a model without a known price costs is not counted. */
const spend = z.strictObject({ monthlyUsd: amount({ min: 0, max: 10_000_000 }).optional() });
/** How long things are kept after their run has ended; 0 keeps them. */
const retention = z.strictObject({
  artifactDays: whole({ min: 0, max: 36_500, standard: 0 }),
});

/** Answers of models that are used again for the same question. Off, unless an organization or an agent's file wants it. */
const modelCache = z.strictObject({
  seconds: whole({ min: 0, max: 2_592_000, standard: 0 }),
  maxAnswers: whole({ min: 1, max: 10_000, standard: 1_000 }),
});

const usdPerMillion = amount({ min: 0, max: 1_000_000 });
const MAX_NAMES = 500;
const MAX_FALLBACKS = 8;

const modelName = z
  .string()
  .regex(/^[^/\s]+\/\S+$/, "must be provider/model")
  .max(200);

/** What `defaultModel` must be; whether its alias is there is looked at when settings are changed. */
export const defaultModelRule = "must be provider/model, or a name that modelAliases has";

const atMost = (names: object): boolean => Object.keys(names).length <= MAX_NAMES;

const pricesBy = (name: z.ZodString) =>
  z
    .record(
      name,
      z.strictObject({
        input: usdPerMillion,
        cached: usdPerMillion,
        cacheWrite: usdPerMillion.optional(),
        output: usdPerMillion,
      }),
    )
    .refine(atMost, `may hold ${MAX_NAMES} models`)
    .default({});

/** The settings that are limits and amounts, by what they are about. */
export const settingGroups = { intake, run, retry, spend, retention, modelCache };

export const organizationSettings = z.strictObject({
  intake: intake.prefault({}),
  run: run.prefault({}),
  retry: retry.prefault({}),
  spend: spend.prefault({}),
  retention: retention.prefault({}),
  modelCache: modelCache.prefault({}),
  /** What agents use whose file names no model: `provider/model`, or one of the names below. */
  defaultModel: z
    .string(defaultModelRule)
    .regex(/^(?:[^/\s]+\/\S+|[A-Za-z0-9._-]{1,64})$/, defaultModelRule)
    .max(200)
    .optional(),
  /** Names that agent files may use instead of `provider/model`; of a list, each is asked where the one before is away. */
  modelAliases: z
    .record(
      z.string().regex(/^[A-Za-z0-9._-]{1,64}$/, "must be a name without a slash"),
      z.union([modelName, z.array(modelName).min(1).max(MAX_FALLBACKS)], {
        error: `must be provider/model, or a list of 1 to ${MAX_FALLBACKS} of them`,
      }),
    )
    .refine(atMost, `may hold ${MAX_NAMES} names`)
    .default({}),
  /** USD per million tokens by `provider/model`, before the listed prices; `cached` and `cacheWrite` are input read from and written to the provider's cache. */
  prices: pricesBy(modelName),
});
export type OrganizationSettings = z.output<typeof organizationSettings>;

/**
 * The models that a name means, in the order in which they are asked: a name with a slash is itself, an alias what the
 * organization says, and no name the organization's default. Undefined where there is no such alias.
 */
export const modelsNamed = (
  settings: Pick<OrganizationSettings, "defaultModel" | "modelAliases">,
  name: string | undefined,
): readonly string[] | undefined => {
  const wanted = name ?? settings.defaultModel ?? "default";
  if (wanted.includes("/")) return [wanted];
  const models = Object.hasOwn(settings.modelAliases, wanted) ? settings.modelAliases[wanted] : undefined;
  return typeof models === "string" ? [models] : models;
};

/** What an organization has that never changed a setting. */
export const defaultSettings: OrganizationSettings = organizationSettings.parse({});

/** Strict about what is written, lenient about what is read. */
const readable = z.object({
  intake: z.object(intake.shape).prefault({}),
  run: z.object(run.shape).prefault({}),
  retry: z.object(retry.shape).prefault({}),
  spend: z.object(spend.shape).prefault({}),
  retention: z.object(retention.shape).prefault({}),
  modelCache: z.object(modelCache.shape).prefault({}),
  defaultModel: z.string().min(1).max(200).optional(),
  modelAliases: organizationSettings.shape.modelAliases,
  prices: pricesBy(z.string()),
});

const storedSettings = z.object({
  intake: readable.shape.intake.catch(defaultSettings.intake),
  run: readable.shape.run.catch(defaultSettings.run),
  retry: readable.shape.retry.catch(defaultSettings.retry),
  spend: readable.shape.spend.catch(defaultSettings.spend),
  retention: readable.shape.retention.catch(defaultSettings.retention),
  modelCache: readable.shape.modelCache.catch(defaultSettings.modelCache),
  defaultModel: readable.shape.defaultModel.catch(undefined),
  modelAliases: readable.shape.modelAliases.catch({}),
  prices: readable.shape.prices.catch({}),
});

/**
 * Reads what is stored: only what differs from the defaults. What this version does not know is passed over, and a
 * group that it no longer allows counts as unset, so that no stored row can lock an organization out.
 */
export const readSettings = (stored: unknown): OrganizationSettings => {
  const parsed = storedSettings.safeParse(stored);
  return parsed.success ? parsed.data : defaultSettings;
};

/** Why a group, a table or `defaultModel` counts as unset although it is stored: the name of what is not valid in it. */
export const unreadableSettings = (stored: JsonObject): ReadonlyMap<string, string> =>
  new Map(readable.safeParse(stored).error?.issues.map(({ path }) => [String(path[0]), path.join(".")]));
