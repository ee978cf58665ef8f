import type { JsonObject } from "@shaman/kernel";
import { z } from "zod";
import {
  defaultSettings,
  settingGroups,
  unreadableSettings,
  type OrganizationSettings,
} from "./organization-settings.ts";
import { at } from "./settings-patch.ts";

/** One setting by the name that people write, such as `run.maxSteps`, or an entry of a table: `prices.openai/gpt-5`. */
export type SettingView = {
  readonly name: string;
  /** Undefined where nothing is set and there is no default. */
  readonly value: unknown;
  readonly standard: unknown;
  /** Whether the organization has set it, be it to what is the default, and that holds. */
  readonly isSet: boolean;
  /** The name of what is stored and not valid, so that the default holds for all of its group. */
  readonly unreadable: string | undefined;
  /** What it may be. */
  readonly range: string;
};

const range = z.object({ type: z.enum(["integer", "number"]), minimum: z.number(), maximum: z.number() });

const rangeOf = (schema: z.ZodType): string => {
  const { type, minimum, maximum } = range.parse(z.toJSONSchema(schema));
  return `${type === "integer" ? "whole, " : ""}${minimum} to ${maximum}`;
};

const AMOUNTS = Object.entries(settingGroups).flatMap(([group, { shape }]) =>
  Object.entries(shape).map(([key, schema]) => ({ group, key, name: `${group}.${key}`, range: rangeOf(schema) })),
);

const OTHERS = {
  defaultModel: "provider/model, or an alias",
  modelAliases: "provider/model or a list of them, by alias",
  prices: "USD per million tokens, by provider/model",
} as const;

/** Settings that hold any number of entries, each under a name that the organization chooses. */
export const SETTING_TABLES = ["modelAliases", "prices"] as const;

/** Every setting; an entry of a table is named by the table, a dot and its own name. */
export const SETTING_NAMES: readonly string[] = [...AMOUNTS.map(({ name }) => name), ...Object.keys(OTHERS)];

/** All settings as they hold, those of tables entry by entry. */
export const listSettings = (settings: OrganizationSettings, overrides: JsonObject): readonly SettingView[] => {
  const unreadable = unreadableSettings(overrides);
  const other = (name: keyof typeof OTHERS) => ({ name, standard: undefined, unreadable: unreadable.get(name) });
  return [
    ...AMOUNTS.map(({ group, key, name, range: may }) => ({
      name,
      value: at(at(settings, group), key),
      standard: at(at(defaultSettings, group), key),
      isSet: !unreadable.has(group) && at(at(overrides, group), key) !== undefined,
      unreadable: unreadable.get(group),
      range: may,
    })),
    {
      ...other("defaultModel"),
      value: settings.defaultModel,
      isSet: settings.defaultModel !== undefined,
      range: OTHERS.defaultModel,
    },
    ...SETTING_TABLES.flatMap((table) => {
      const entries = Object.entries(settings[table]);
      const empty = { ...other(table), value: undefined, isSet: false, range: OTHERS[table] };
      if (entries.length === 0) return [empty];
      return entries.map(([name, value]) => ({ ...empty, name: `${table}.${name}`, value, isSet: true }));
    }),
  ];
};
