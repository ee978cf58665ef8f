import type { FieldViolation } from "./errors.ts";

/**
 * Reads one ProtoJSON object: camelCase and proto names alike but not both, null as absent, unknown fields ignored
 * (A2A 1.0.1 §5.5, §5.7). Collects what is wrong instead of stopping at the first.
 */
export type ObjectReader = {
  readonly raw: (name: string) => unknown;
  readonly has: (name: string) => boolean;
  readonly string: (name: string) => string | undefined;
  readonly boolean: (name: string) => boolean | undefined;
  readonly int32: (name: string) => number | undefined;
  readonly object: (name: string) => Record<string, unknown> | undefined;
  readonly strings: (name: string) => readonly string[] | undefined;
  readonly list: (name: string) => readonly unknown[] | undefined;
  readonly fail: (name: string, description: string) => void;
};

export const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Whether objects and lists stand in each other more than `max` deep. Takes any depth, where recursion would not. */
export const isNestedDeeper = (value: unknown, max: number): boolean => {
  let level: readonly unknown[] = [value];
  for (let depth = 0; level.length > 0; depth += 1) {
    if (depth > max) return true;
    level = level.flatMap((one) => (typeof one === "object" && one !== null ? nestedIn(one) : []));
  }
  return false;
};

const nestedIn = (value: object): readonly unknown[] =>
  Object.values(value).filter((one) => typeof one === "object" && one !== null);

const protoName = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

const INT32_MAX = 2_147_483_647;

export const readObject = (
  source: Record<string, unknown>,
  path: string,
  violations: FieldViolation[],
): ObjectReader => {
  const at = (name: string): string => (path === "" ? name : `${path}.${name}`);
  const fail = (name: string, description: string): void => void violations.push({ field: at(name), description });

  const raw = (name: string): unknown => {
    const other = protoName(name);
    if (other !== name && other in source) {
      if (name in source) fail(name, `is given twice, as ${name} and as ${other}; send ${name} only`);
      return source[other];
    }
    return source[name];
  };

  const read = <T>(name: string, expected: string, parse: (value: unknown) => T | undefined): T | undefined => {
    const value = raw(name);
    if (value === undefined || value === null) return undefined;
    const parsed = parse(value);
    if (parsed === undefined) fail(name, `must be ${expected}`);
    return parsed;
  };

  return {
    raw,
    has: (name) => raw(name) !== undefined,
    string: (name) => read(name, "a string", (value) => (typeof value === "string" ? value : undefined)),
    boolean: (name) => read(name, "true or false", (value) => (typeof value === "boolean" ? value : undefined)),
    int32: (name) => read(name, "a whole number", toInt32),
    object: (name) => read(name, "an object", (value) => (isObject(value) ? value : undefined)),
    list: (name) => read(name, "a list", (value) => (Array.isArray(value) ? value : undefined)),
    strings: (name) =>
      read(name, "a list of strings", (value) =>
        Array.isArray(value) && value.every((item) => typeof item === "string") ? value : undefined,
      ),
    fail,
  };
};

/** ProtoJSON writes a number, and readers take `"10"` and `10.0` too. */
const toInt32 = (value: unknown): number | undefined => {
  const number = typeof value === "string" && value.trim() !== "" ? Number(value) : value;
  if (typeof number !== "number" || !Number.isInteger(number)) return undefined;
  return Math.abs(number) <= INT32_MAX ? number : undefined;
};
