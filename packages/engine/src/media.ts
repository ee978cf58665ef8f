import { hash } from "node:crypto";
import { isJsonObject, type JsonObject } from "@shaman/kernel";
import { MEDIA_TYPES, type Media } from "@shaman/llm";
import { contradicts, essenceOf, SNIFFED_BYTES } from "@shaman/storage";

/** Of what tools give to one task: a model is sent all of it with each request, and providers bound those. */
const MAX_TASK_BYTES = 16 * 1024 * 1024;
const MAX_TASK_MEDIA = 50;

/** How much of images and documents a task may still take in. */
export type MediaRoom = {
  /** Takes so many bytes for one of them, if there is room. */
  readonly take: (bytes: number) => boolean;
};

export const createMediaRoom = (): MediaRoom => {
  let [bytesLeft, countLeft] = [MAX_TASK_BYTES, MAX_TASK_MEDIA];
  return {
    take: (bytes) => {
      if (bytes > bytesLeft || countLeft === 0) return false;
      bytesLeft -= bytes;
      countLeft -= 1;
      return true;
    },
  };
};

/** Content in base64 as models are shown it; nothing where none takes its type, or it is not what it says it is. */
export const mediaOf = (declared: string, base64: string): Media | undefined => {
  const type = essenceOf(declared);
  const mediaType = type === "image/jpg" ? "image/jpeg" : type;
  if (!MEDIA_TYPES.has(mediaType)) return undefined;
  const content = Buffer.from(base64, "base64");
  const head = content.subarray(0, SNIFFED_BYTES);
  if (head.byteLength === 0 || contradicts({ head, mediaType }) !== undefined) return undefined;
  return { mediaType, sha256: hash("sha256", content, "hex"), base64: content.toString("base64") };
};

/** The images and documents in a caller's message. */
export const messageMedia = (message: JsonObject): readonly Media[] => {
  const parts = Array.isArray(message.parts) ? message.parts : [];
  return parts.flatMap((part) => {
    if (!isJsonObject(part) || typeof part.raw !== "string" || typeof part.mediaType !== "string") return [];
    return mediaOf(part.mediaType, part.raw) ?? [];
  });
};
