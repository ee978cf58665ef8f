import { err, ok, userError, type Json, type Result } from "@shaman/kernel";
import { stringify } from "yaml";

import type { RequestDigest } from "./asked.ts";
import { parseScript } from "./parse-script.ts";

/** One answer of a real model, with the digest of what it was asked. */
export type RecordedAnswer = {
  readonly request: RequestDigest;
  readonly text: string;
  readonly toolCalls: readonly { readonly name: string; readonly input: Json }[];
  readonly usage: { readonly inputTokens: number; readonly outputTokens: number; readonly cachedInputTokens: number };
  readonly finishReason: string;
  /** `provider/model` as it said of itself. */
  readonly model: string;
};

const LINE_WIDTH = 110;
const MAX_COMMENT_CHARS = 200;

const turnOf = ({ request, text, toolCalls, usage, finishReason }: RecordedAnswer) => ({
  match: { request },
  // A turn has to say something, and an empty text is what this one said.
  ...((text !== "" || toolCalls.length === 0) && { text }),
  ...(toolCalls.length > 0 && { toolCalls: toolCalls.map(({ name, input }) => ({ name, input })) }),
  usage,
  finishReason,
});

/** One line of a comment, whatever a name holds. */
const inComment = (text: string): string => text.replace(/[^\x20-\x7e]+/g, " ").slice(0, MAX_COMMENT_CHARS);

/**
 * A script that plays the answers of a real model to exactly what it was asked. `from` says in a comment where they come
 * from. Errors: `recording_invalid` where a script may not hold them, such as for its size.
 */
export const writeRecording = (answers: readonly RecordedAnswer[], from: string): Result<string> => {
  const models = [...new Set(answers.map((answer) => answer.model))].join(", ");
  const head = [
    `# Recorded from ${inComment(models)}, ${inComment(from)}.`,
    "# Plays these answers to exactly these requests. Record it anew when the agent's prompt or tools change.",
  ].join("\n");
  const text = `${head}\n${stringify({ turns: answers.map(turnOf) }, { lineWidth: LINE_WIDTH, aliasDuplicateObjects: false })}`;
  const parsed = parseScript(text, "the recording");
  if (parsed.ok) return ok(text);
  const [problem] = parsed.error;
  return err(
    userError("recording_invalid", `These answers do not fit into a script: it ${problem?.message ?? "is invalid"}.`),
  );
};
