import { findNearNames } from "@shaman/agents";
import { isJsonObject, userError, type AppError, type Json, type JsonObject } from "@shaman/kernel";
import { SETTING_NAMES, SETTING_TABLES } from "@shaman/tenancy";

/** The word that takes a setting back. */
const DEFAULT = "default";

/**
 * The change (RFC 7396) that `org set <setting> <value>` means: a number, JSON, text that is none, or `default`. Throws
 * `setting_unknown` and `invalid_input`; what the value may be is for the settings themselves to say.
 */
export const settingPatch = (setting: string, text: string): JsonObject => {
  const value = text === DEFAULT ? null : setting === "defaultModel" ? text : parsed(text);
  const table = SETTING_TABLES.find((each) => setting === each || setting.startsWith(`${each}.`));
  if (table !== undefined) return tablePatch(table, setting.slice(table.length + 1), value);
  if (!SETTING_NAMES.includes(setting)) throw unknown(setting);
  const [group, name] = setting.split(".");
  return name === undefined ? { [setting]: value } : { [group ?? ""]: { [name]: value } };
};

const EXAMPLES = {
  modelAliases: '{"fast": "openai/gpt-5-mini"}',
  prices: '{"openai/gpt-5": {"input": 1.25, "cached": 0.125, "output": 10}}',
};

const tablePatch = (table: keyof typeof EXAMPLES, entry: string, value: Json): JsonObject => {
  if (entry !== "") return { [table]: { [entry]: value } };
  if (value === null || isJsonObject(value)) return { [table]: value };
  throw userError("invalid_input", `${table}: must be a JSON object such as '${EXAMPLES[table]}', or default.`);
};

const parsed = (text: string): Json => {
  try {
    const value: Json = JSON.parse(text);
    return value;
  } catch {
    return text;
  }
};

const lastPart = (name: string): string => name.slice(name.indexOf(".") + 1);

const unknown = (setting: string): AppError => {
  const near = findNearNames(setting, SETTING_NAMES);
  const wanted = lastPart(setting);
  const parts = SETTING_NAMES.map(lastPart);
  const byPart = new Set([wanted, ...findNearNames(wanted, parts)]);
  const meant = near.length > 0 ? near : SETTING_NAMES.filter((name) => byPart.has(lastPart(name)));
  const hint = meant.length === 0 ? "" : ` Did you mean ${meant.join(" or ")}?`;
  return userError("setting_unknown", `There is no setting "${setting}".${hint} ./shaman org settings lists them all.`);
};
