import type { JsonObject } from "@shaman/kernel";
import type { ArtifactPayload, RunEvent } from "./events.ts";

export type ArtifactView = {
  readonly artifactId: string;
  readonly name?: string | null;
  readonly description?: string | null;
  readonly parts: readonly JsonObject[];
  readonly metadata?: JsonObject | null;
};

/**
 * Adds a chunk's parts to those there are. Consecutive text that says nothing else is one streamed text, and is kept as
 * one Part: whoever reads the finished artifact finds the answer whole (docs/decisions/003-streamed-text-is-one-part.md).
 */
export const appendParts = (parts: JsonObject[], chunk: readonly JsonObject[]): void => {
  for (const part of chunk) {
    const last = parts.at(-1);
    if (last !== undefined && isPlainText(last) && isPlainText(part)) {
      parts[parts.length - 1] = joinText(last, part);
    } else parts.push(part);
  }
};

/** The part with what continues it. */
export const joinText = (last: JsonObject, part: JsonObject): JsonObject => {
  if (typeof last.text === "string" && typeof part.text === "string") return { ...last, text: last.text + part.text };
  if (typeof last.raw === "string" && typeof part.raw === "string") return { ...last, raw: last.raw + part.raw };
  return last;
};

export const isPlainText = (part: JsonObject): part is { readonly text: string; readonly mediaType?: string } => {
  if (typeof part.text !== "string") return false;
  return Object.keys(part).every((key) => key === "text" || (key === "mediaType" && part.mediaType === "text/plain"));
};

/** Whether an artifact was taken back: A2A has no word for that, so that it became empty. */
export const isWithdrawn = ({ parts: [part, ...others] }: { readonly parts: readonly JsonObject[] }): boolean =>
  others.length === 0 && part !== undefined && isPlainText(part) && part.text === "";

/** The artifacts that a task's events add up to, without those that were withdrawn. */
export const foldArtifacts = (events: readonly RunEvent[]): readonly ArtifactView[] => {
  const artifacts = new Map<string, { payload: ArtifactPayload; parts: JsonObject[] }>();
  for (const event of events) {
    if (event.type !== "task.artifact") continue;
    const { payload } = event;
    const known = artifacts.get(payload.artifactId);
    if (payload.append && known !== undefined) appendParts(known.parts, payload.parts);
    else artifacts.set(payload.artifactId, { payload, parts: [...payload.parts] });
  }
  return [...artifacts.values()]
    .filter((artifact) => !isWithdrawn(artifact))
    .map(({ payload, parts }) => ({
      artifactId: payload.artifactId,
      parts,
      ...(payload.name !== undefined && { name: payload.name }),
      ...(payload.description !== undefined && { description: payload.description }),
      ...(payload.metadata !== undefined && { metadata: payload.metadata }),
    }));
};
