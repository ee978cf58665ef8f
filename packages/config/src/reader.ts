import { err, ok, type Result } from "@shaman/kernel";
import type { z } from "zod";

export type Env = Readonly<Record<string, string | undefined>>;

/** One environment variable: how its text is parsed, and what it is for (shown with every problem). */
export type Variable<T> = { readonly schema: z.ZodType<T>; readonly about: string };

export type Variables = Readonly<Record<string, Variable<unknown>>>;

type Values<V extends Variables> = { readonly [K in keyof V]: V[K] extends Variable<infer T> ? T : never };

/**
 * The configuration of one concern. A room exports a reader; an app's `config.ts` composes readers, and is the only
 * place that passes `process.env`.
 */
export type ConfigReader<T> = {
  readonly variables: Variables;
  /** All problems at once, each a sentence that names the variable. */
  readonly read: (env: Env) => Result<T, readonly string[]>;
};

export const defineConfig = <V extends Variables, T>(
  variables: V,
  build: (values: Values<V>) => T,
): ConfigReader<T> => ({
  variables,
  read: (env) => {
    const problems: string[] = [];
    const values: Record<string, unknown> = {};
    for (const [name, variable] of Object.entries(variables)) {
      const text = env[name];
      const parsed = variable.schema.safeParse(text === "" ? undefined : text);
      if (parsed.success) values[name] = parsed.data;
      else {
        const reason = parsed.error.issues[0]?.message ?? "is not valid";
        problems.push(`${name}: ${reason} (${variable.about})`);
      }
    }
    // Each name of `variables` was parsed by its own schema just above, so the values have the types of the schemas.
    return problems.length > 0 ? err(problems) : ok(build(values as Values<V>));
  },
});

type Read<R> = R extends ConfigReader<infer T> ? T : never;

/** Reads several concerns and reports every problem of all of them together. */
export const readConfig = <R extends Readonly<Record<string, ConfigReader<unknown>>>>(
  readers: R,
  env: Env,
): Result<{ readonly [K in keyof R]: Read<R[K]> }, readonly string[]> => {
  const problems: string[] = [];
  const config: Record<string, unknown> = {};
  for (const [name, reader] of Object.entries(readers)) {
    const result = reader.read(env);
    if (result.ok) config[name] = result.value;
    else problems.push(...result.error);
  }
  // Each name of `readers` got the value of its own reader just above.
  return problems.length > 0 ? err(problems) : ok(config as { readonly [K in keyof R]: Read<R[K]> });
};
