export type { Asked, GivenResult, RequestDigest } from "./asked.ts";
export { DIGEST_PARTS } from "./matcher.ts";
export { parseScript, type Problem, type Script, type Turn } from "./parse-script.ts";
export type { Captures } from "./template.ts";
export { writeRecording, type RecordedAnswer } from "./write-recording.ts";
