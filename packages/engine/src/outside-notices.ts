import type { ExternalProgress } from "@shaman/a2a-wire";
import type { JsonObject } from "@shaman/kernel";
import type { PipedNotice, TextNotice } from "./notice-pipe.ts";

const PROGRESS_EVERY_MS = 500;
const MAX_PIECES = 5_000;
const CUT = "\n[what follows of its text is not shown here]";

const textsOf = (parts: readonly JsonObject[]): readonly string[] =>
  parts.flatMap(({ text }) => (typeof text === "string" ? [text] : []));

type Fallback = Extract<ExternalProgress, { kind: "fallback" }>;

const nameOf = ({ binding, version, url }: Fallback["from"]): string => `${binding} ${version} at ${url}`;

/**
 * What people see of a call of an outside agent while it lasts: the states as they come, the text as it is written, at
 * most `maxTextBytes` of it, and of other content now and then how much has come.
 */
export const createOutsideNotices = (
  maxTextBytes: number,
): ((progress: ExternalProgress) => readonly PipedNotice[]) => {
  const texts = createTexts(maxTextBytes);
  let written = 0;
  let toldAt = 0;
  const amount = ({ artifact, append }: Extract<ExternalProgress, { kind: "artifact" }>): readonly PipedNotice[] => {
    if (textsOf(artifact.parts).length === artifact.parts.length) return [];
    const bytes = Buffer.byteLength(JSON.stringify(artifact.parts));
    written = append ? written + bytes : bytes;
    if (Date.now() < toldAt + PROGRESS_EVERY_MS) return [];
    toldAt = Date.now();
    return [{ kind: "progress", progress: written, message: "bytes of its answer have come" }];
  };
  return (progress) => {
    switch (progress.kind) {
      case "fallback": {
        const message = `${nameOf(progress.from)} is not there; the message goes out by ${nameOf(progress.to)}`;
        return [{ kind: "log", level: "warning", message }];
      }
      case "unreachable": {
        const where = progress.at === undefined ? "the server of its card" : nameOf(progress.at);
        return [{ kind: "log", level: "warning", message: `${where} is not there; it is tried again` }];
      }
      case "progress": {
        const message = [progress.state, ...textsOf(progress.message?.parts ?? [])].join(": ");
        return [{ kind: "log", level: "info", message }];
      }
      case "artifact":
        return [...texts(progress), ...amount(progress)];
    }
  };
};

/** The text of all artifacts, each piece told once, also by an agent that gives the whole again and again. */
const createTexts = (maxBytes: number) => {
  const told = new Map<string, string>();
  let left = maxBytes;
  let pieces = 0;
  return ({ artifact, append }: Extract<ExternalProgress, { kind: "artifact" }>): readonly TextNotice[] => {
    if (left <= 0) return [];
    const { artifactId, name = artifactId, parts } = artifact;
    const before = told.get(artifactId);
    const given = textsOf(parts).join("");
    const continues = before !== undefined && (append || given.startsWith(before));
    const piece = continues && !append ? given.slice(before.length) : given;
    if (piece === "") return [];
    told.set(artifactId, continues ? before + piece : piece);
    pieces += 1;
    const bytes = Buffer.from(piece);
    const fits = bytes.length <= left && pieces <= MAX_PIECES;
    const cut = new TextDecoder().decode(bytes.subarray(0, left), { stream: true });
    left = fits ? left - bytes.length : 0;
    return [{ kind: "text", artifact: name, message: fits ? piece : cut + CUT, append: continues }];
  };
};
