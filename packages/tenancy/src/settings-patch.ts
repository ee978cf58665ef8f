import { isDeepStrictEqual } from "node:util";
import { err, invalidInput, ok, type Json, type JsonObject, type Result } from "@shaman/kernel";
import type { z } from "zod";
import { defaultModelRule, organizationSettings } from "./organization-settings.ts";

/** RFC 7396: objects merge, null removes, anything else replaces. */
const mergePatch = (target: Json | undefined, patch: Json): Json => {
  if (!isObject(patch)) return patch;
  // A map, because assigning to a key that a patch chose could reach the prototype.
  const merged = new Map<string, Json>(isObject(target) ? Object.entries(target) : []);
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) merged.delete(key);
    else merged.set(key, mergePatch(merged.get(key), value));
  }
  return Object.fromEntries(merged);
};

const isObject = (value: Json | undefined): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** A group of which everything went back to its default is no override. */
const withoutEmptyGroups = (stored: Json): Json =>
  isObject(stored)
    ? Object.fromEntries(Object.entries(stored).filter(([, of]) => !isObject(of) || Object.keys(of).length > 0))
    : stored;

type Problem = { readonly path: readonly PropertyKey[]; readonly message: string };

/** JSON knows it as a key like any other, but whoever assigns to it changes something else. */
const prototypeKeys = (value: Json, path: readonly PropertyKey[] = []): readonly Problem[] => {
  if (Array.isArray(value)) return value.flatMap((each, index) => prototypeKeys(each, [...path, index]));
  if (!isObject(value)) return [];
  return Object.entries(value).flatMap(([key, of]) => {
    const place = [...path, key];
    return key === "__proto__" ? [{ path: place, message: "is no name that may be used" }] : prototypeKeys(of, place);
  });
};

/** What an object or a list has itself under a key. */
export const at = (from: unknown, key: PropertyKey): unknown =>
  typeof from === "object" && from !== null ? Object.getOwnPropertyDescriptor(from, key)?.value : undefined;

type PlacedIssue = { readonly issue: z.core.$ZodIssue; readonly place: readonly PropertyKey[] };

/** What is not valid, each with the place of the value that makes it so. */
const placedIssues = (settings: Json): readonly PlacedIssue[] =>
  (organizationSettings.safeParse(settings).error?.issues ?? []).flatMap((issue): PlacedIssue[] =>
    issue.code === "unrecognized_keys"
      ? issue.keys.map((key) => ({ issue: { ...issue, keys: [key] }, place: [...issue.path, key] }))
      : [{ issue, place: issue.path }],
  );

/** The default model, where it is an alias that is not there. */
const missingAlias = (settings: Json): string | undefined => {
  const name = at(settings, "defaultModel");
  if (typeof name !== "string" || name.includes("/")) return undefined;
  return at(at(settings, "modelAliases"), name) === undefined ? name : undefined;
};

const aliasProblems = (stored: Json, changed: Json): readonly Problem[] => {
  const missing = missingAlias(changed);
  if (missing === undefined || missing === missingAlias(stored)) return [];
  if (missing !== at(stored, "defaultModel")) return [{ path: ["defaultModel"], message: defaultModelRule }];
  const message = "is the defaultModel, which must be another one before the alias can go";
  return [{ path: ["modelAliases", missing], message }];
};

/** What the change makes wrong: what is stored already and not valid, perhaps by another version, is no part of it. */
const newProblems = (stored: Json, changed: Json): readonly Problem[] => {
  const before = placedIssues(stored);
  const isOld = ({ issue, place }: PlacedIssue): boolean =>
    before.some((old) => isDeepStrictEqual(old.issue, issue)) &&
    isDeepStrictEqual(place.reduce(at, stored), place.reduce(at, changed));
  const found = placedIssues(changed).flatMap((placed) => (isOld(placed) ? [] : [placed.issue]));
  return found.length > 0 ? found : aliasProblems(stored, changed);
};

/**
 * What would be stored after a change: only overrides, a null takes one back to its default. Errors: `invalid_input`
 * that names each setting that the change makes wrong.
 */
export const changeSettings = (stored: Json, patch: JsonObject): Result<Json> => {
  const forbidden = prototypeKeys(patch);
  if (forbidden.length > 0) return err(invalidInput({ issues: forbidden }));
  const changed = withoutEmptyGroups(mergePatch(stored, patch));
  const issues = newProblems(stored, changed);
  return issues.length === 0 ? ok(changed) : err(invalidInput({ issues }));
};
