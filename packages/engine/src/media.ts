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

const typeOf = (declared: string): string => {
  const type = essenceOf(declared);
  return type === "image/jpg" ? "image/jpeg" : type;
};

/** Content in base64 as models are shown it; nothing where none takes its type, or it is not what it says it is. */
export const mediaOf = (declared: string, base64: string): Media | undefined => {
  const mediaType = typeOf(declared);
  if (!MEDIA_TYPES.has(mediaType)) return undefined;
  const content = Buffer.from(base64, "base64");
  const head = content.subarray(0, SNIFFED_BYTES);
  if (head.byteLength === 0 || contradicts({ head, mediaType }) !== undefined) return undefined;
  return { mediaType, sha256: hash("sha256", content, "hex"), base64: content.toString("base64") };
};

/** The files in a caller's message: those a model is shown, and of each other one, as a sentence, why it is not. */
export type MessageFiles = { readonly media: readonly Media[]; readonly problems: readonly string[] };

const MAX_PROBLEMS = 20;
const MAX_NAME_CHARS = 200;

/** Reads the files in a caller's message. What is not shown is a line of text for the model, which then knows its name alone. */
export const messageFiles = (message: JsonObject): MessageFiles => {
  const parts = Array.isArray(message.parts) ? message.parts : [];
  const media: Media[] = [];
  const problems: string[] = [];
  for (const part of parts) {
    if (!isJsonObject(part) || typeof part.text === "string" || part.data !== undefined) continue;
    const { raw, mediaType = "" } = part;
    const declared = typeof mediaType === "string" ? mediaType : "";
    const one = typeof raw === "string" ? mediaOf(declared, raw) : undefined;
    if (one === undefined) problems.push(`${fileName(part)} is not shown to the model: ${whyUnseen(part, declared)}.`);
    else media.push(one);
  }
  const more = problems.length - MAX_PROBLEMS;
  const rest = more > 0 ? [`${more} more files of the message are not shown to the model.`] : [];
  return { media, problems: [...problems.slice(0, MAX_PROBLEMS), ...rest] };
};

const fileName = ({ filename }: JsonObject): string =>
  typeof filename === "string" && filename !== ""
    ? `The file ${JSON.stringify(filename.slice(0, MAX_NAME_CHARS).toWellFormed())}`
    : "A file without a name";

const whyUnseen = ({ url }: JsonObject, declared: string): string => {
  if (typeof url === "string") return "addresses are not fetched, so its content has to be sent as raw";
  if (declared === "") return "it has no mediaType";
  const type = declared.slice(0, MAX_NAME_CHARS);
  if (MEDIA_TYPES.has(typeOf(declared))) return `it is empty, or something else than ${type}`;
  return `models take images (PNG, JPEG, GIF, WebP) and PDF, and it is ${type}`;
};
