export type { Asked, GivenResult } from "./asked.ts";
export { parseScript, type Problem, type Script, type Turn } from "./parse-script.ts";
export type { Captures } from "./template.ts";
