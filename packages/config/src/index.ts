export { defineConfig, readConfig } from "./reader.ts";
export type { ConfigReader, Env, Variable, Variables } from "./reader.ts";
