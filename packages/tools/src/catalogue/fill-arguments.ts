import { err, ok, userError, type Json, type JsonObject, type Result } from "@shaman/kernel";

import type { CatalogueEntry } from "./catalogue-entry.ts";
import { cutAtPlaces, SCRATCH_PLACE } from "./places.ts";
import { defaultOf } from "./read-catalogue.ts";

const MAX_VALUE_CHARS = 4_096;
const MAX_VALUES = 64;

const refused = (entry: CatalogueEntry, problem: string) =>
  userError("mcp_parameters_invalid", `The parameters for ${entry.name} do not fit: ${problem}.`);

/** A parameter as the texts it stands for: one, or one an item of a list. */
const textsOf = (value: Json): readonly string[] | undefined => {
  if (Array.isArray(value)) {
    // Narrowing does not reach into a readonly array of JSON.
    const items = value as readonly Json[];
    if (items.length > MAX_VALUES) return undefined;
    const texts = items.map((item) => (Array.isArray(item) ? undefined : textsOf(item)));
    return texts.every((each) => each !== undefined) ? texts.flat() : undefined;
  }
  if (typeof value === "string") return value.length <= MAX_VALUE_CHARS && !value.includes("\0") ? [value] : undefined;
  return typeof value === "number" || typeof value === "boolean" ? [String(value)] : undefined;
};

type Values = ReadonlyMap<string, readonly string[]>;

const readValues = (entry: CatalogueEntry, parameters: JsonObject): Result<Values> => {
  const names = Object.keys(Object(entry.parameters["properties"]));
  const unknown = Object.keys(parameters).find((name) => !names.includes(name));
  if (unknown !== undefined) return err(refused(entry, `there is no ${unknown.slice(0, 64)}`));
  const given: Record<string, Json> = {};
  for (const name of names) {
    const value = Object.hasOwn(parameters, name) ? parameters[name] : defaultOf(entry, name);
    if (value !== undefined) given[name] = value;
  }
  const problems = entry.validateParameters(given);
  if (problems.length > 0) return err(refused(entry, problems.join("; ")));
  const values = new Map<string, readonly string[]>();
  for (const [name, value] of Object.entries(given)) {
    const texts = textsOf(value);
    if (texts === undefined) {
      return err(refused(entry, `${name} must be a short text, a number, true or false, or a list of these`));
    }
    values.set(name, texts);
  }
  return ok(values);
};

/**
 * One argument of the catalogue as arguments of the program: itself, none when it has a place for a parameter that was not
 * given, or one an item where its only place stands for a list. What a parameter says stays within its argument.
 */
const fillOne = (entry: CatalogueEntry, argument: string, values: Values): Result<readonly string[]> => {
  const cut = cutAtPlaces(argument);
  const places = cut.filter((_, index) => index % 2 === 1);
  const lists = places.map((name) => values.get(name));
  if (lists.some((texts) => texts === undefined)) return ok([]);
  const [text = "", first = ""] = cut;
  const isAlone = places.length === 1 && cut.every((piece, index) => index % 2 === 1 || piece === "");
  const fills = isAlone ? (values.get(first) ?? []).map((value) => new Map([[first, value]])) : [singles(values)];
  const filled: string[] = [];
  for (const fill of fills) {
    const result = cut.map((piece, index) => (index % 2 === 1 ? (fill.get(piece) ?? "") : piece)).join("");
    if (places.length > 0 && text === "" && result.startsWith("-") && !entry.mayBeginWithDash.includes(first)) {
      return err(refused(entry, `${first} must not begin with -`));
    }
    filled.push(result);
  }
  return ok(filled);
};

/** Within a longer argument a list stands with commas between its items. */
const singles = (values: Values): ReadonlyMap<string, string> =>
  new Map([...values].map(([name, texts]) => [name, texts.join(",")]));

/**
 * The program's arguments for what an agent file gives: checked by the entry's schema, each value within the argument that
 * has a place for it, never as an option of its own, and never looked at for places again. `mcp_parameters_invalid` says
 * what does not fit.
 */
export const fillArguments = (
  entry: CatalogueEntry,
  parameters: JsonObject,
  options: { readonly scratch: string },
): Result<readonly string[]> => {
  const read = readValues(entry, parameters);
  if (!read.ok) return read;
  const values = new Map([...read.value, [SCRATCH_PLACE, [options.scratch]] as const]);
  const filled: string[] = [];
  for (const argument of entry.args) {
    const result = fillOne(entry, argument, values);
    if (!result.ok) return result;
    filled.push(...result.value);
  }
  return ok(filled);
};
