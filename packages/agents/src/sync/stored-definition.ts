import { createHash } from "node:crypto";

import type { AgentDefinition, PromptSegment } from "../definition/agent-definition.ts";
import type { ParsedAgent } from "../definition/parse-definition.ts";

/** A piece of a prompt as a range of a blob, so that an include shared by many agents is stored once. */
type StoredSegment =
  | { readonly kind: "prompt" }
  | { readonly kind: "text"; readonly blob: string; readonly from: number; readonly to: number };

/** A definition as `agent_version` holds it: texts are in `blob`, by their hash. */
export type StoredDefinition = Omit<AgentDefinition, "template" | "script"> & {
  readonly template: readonly StoredSegment[];
  readonly script?: { readonly file: string; readonly blob: string };
  /** The agent's own file, as it was written. */
  readonly source: string;
};

const hashText = (text: string): string => createHash("sha256").update(text).digest("hex");

/** One version ready to be stored. */
export type PlannedVersion = {
  readonly stored: StoredDefinition;
  readonly contentHash: string;
  /** Texts by hash. */
  readonly blobs: ReadonlyMap<string, string>;
};

/** Splits a parsed agent into a definition without texts, and the texts. `hashes` remembers what files share. */
export const planVersion = (agent: ParsedAgent, hashes: Map<string, string>): PlannedVersion => {
  const byFile = new Map<string, string>();
  const blobs = new Map<string, string>();
  for (const [file, text] of agent.files) {
    const hash = hashes.get(file) ?? hashText(text);
    hashes.set(file, hash);
    byFile.set(file, hash);
    blobs.set(hash, text);
  }
  const blobOf = (file: string): string => byFile.get(file) ?? "";
  const { template: _, script, ...rest } = agent.definition;
  const stored: StoredDefinition = {
    ...rest,
    template: agent.slices.map((slice) =>
      slice.kind === "prompt" ? slice : { kind: "text", blob: blobOf(slice.file), from: slice.from, to: slice.to },
    ),
    ...(script !== undefined && { script: { file: script.file, blob: blobOf(script.file) } }),
    source: blobOf(rest.file),
  };
  return { stored, contentHash: hashText(JSON.stringify(stored)), blobs };
};

/** The blobs a definition needs to be whole again. */
export const blobsOf = (stored: StoredDefinition): readonly string[] => {
  const hashes = stored.template.flatMap((segment) => (segment.kind === "text" ? [segment.blob] : []));
  return [...new Set(stored.script === undefined ? hashes : [...hashes, stored.script.blob])];
};

/** Puts the texts back. A blob that is not in `blobs` is a fault of ours: throws. */
export const restoreDefinition = (stored: StoredDefinition, blobs: ReadonlyMap<string, string>): AgentDefinition => {
  const textOf = (hash: string): string => {
    const text = blobs.get(hash);
    if (text === undefined) throw new Error(`blob ${hash} of ${stored.path} is missing`);
    return text;
  };
  const { template, script, source: _, ...rest } = stored;
  const segments = template.map((segment): PromptSegment =>
    segment.kind === "prompt" ? segment : { kind: "text", text: textOf(segment.blob).slice(segment.from, segment.to) },
  );
  return {
    ...rest,
    template: segments,
    ...(script !== undefined && { script: { file: script.file, text: textOf(script.blob) } }),
  };
};
