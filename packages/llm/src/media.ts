import type { Media, ModelMessage } from "./model-port.ts";

/** Images that models are shown. */
export const IMAGE_TYPES: ReadonlySet<string> = new Set(["image/png", "image/jpeg", "image/gif", "image/webp"]);

/** Everything that some model may be shown: whether one is, its provider's adapter decides. */
export const MEDIA_TYPES: ReadonlySet<string> = new Set([...IMAGE_TYPES, "application/pdf"]);

const bare = (media: readonly Media[]): readonly Media[] => media.map((one) => ({ ...one, base64: "" }));

/** The message as it is hashed: its media are told apart by their own hashes, which spares reading megabytes again. */
export const withoutContent = (message: ModelMessage): ModelMessage => {
  switch (message.role) {
    case "user":
      return message.media === undefined ? message : { ...message, media: bare(message.media) };
    case "tool":
      return {
        ...message,
        results: message.results.map((result) =>
          result.media === undefined ? result : { ...result, media: bare(result.media) },
        ),
      };
    case "system":
    case "assistant":
      return message;
  }
};
