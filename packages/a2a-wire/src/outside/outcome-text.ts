import type { Json, JsonObject } from "@shaman/kernel";
import type { ExternalOutcome } from "./call-external-agent.ts";
import type { ForeignArtifact } from "./wire-shapes.ts";

const MAX_BYTES = 64 * 1024;
const CUT = "… (cut)";
const MAX_ARTIFACTS = 50;

/** What of a part a model can read; files are named, not shown. */
const partJson = (part: JsonObject): Json => {
  if (typeof part.text === "string") return part.text;
  if (part.data !== undefined) return part.data;
  const about = { ...(part.filename !== undefined && { filename: part.filename }), mediaType: part.mediaType ?? null };
  if (typeof part.url === "string") return { file: part.url, ...about };
  const bytes = typeof part.raw === "string" ? Buffer.byteLength(part.raw, "base64") : 0;
  return { file: `${bytes} bytes`, ...about };
};

const artifactJson = ({ artifactId, name, description, parts }: ForeignArtifact): Json => ({
  artifact: name ?? artifactId,
  ...(description !== undefined && { description }),
  content: joinTexts(parts.map(partJson)),
});

/** Text that was streamed in pieces reads as one. */
const joinTexts = (content: readonly Json[]): readonly Json[] => {
  const joined: Json[] = [];
  let texts: string[] = [];
  const flush = (): void => {
    if (texts.length > 0) joined.push(texts.join(""));
    texts = [];
  };
  for (const one of content) {
    if (typeof one === "string") {
      texts.push(one);
      continue;
    }
    flush();
    joined.push(one);
  }
  flush();
  return joined;
};

const contentOf = (outcome: Exclude<ExternalOutcome, { kind: "error" }>): readonly Json[] => {
  const said = joinTexts((outcome.message?.parts ?? []).map(partJson));
  return outcome.kind === "message" ? said : [...said, ...outcome.artifacts.slice(0, MAX_ARTIFACTS).map(artifactJson)];
};

/** Cuts without leaving half a character. */
const cutTo = (text: string, maxBytes: number): string => {
  if (Buffer.byteLength(text) <= maxBytes) return text;
  const room = Math.max(0, maxBytes - Buffer.byteLength(CUT));
  return `${Buffer.from(text)
    .subarray(0, room)
    .toString("utf8")
    .replace(/\uFFFD$/, "")}${CUT}`;
};

/**
 * An outside agent's answer as the model that called it reads it: one JSON object in which everything foreign is a string
 * or a value, at most `maxBytes` long. JSON keeps it apart from instructions; whoever shows it says that it is data.
 */
export const externalOutcomeText = (
  agent: string,
  outcome: ExternalOutcome,
  options: { readonly maxBytes?: number } = {},
): string => {
  const shown =
    outcome.kind === "error"
      ? { outsideAgent: agent, error: outcome.error.code, message: outcome.error.message }
      : {
          outsideAgent: agent,
          state: outcome.kind === "message" ? "completed" : outcome.state,
          answer: contentOf(outcome),
        };
  return cutTo(JSON.stringify(shown), options.maxBytes ?? MAX_BYTES);
};
