import type { Media } from "@shaman/llm";
import type { ToolContent, ToolOutcome } from "@shaman/tools";
import { mediaOf, type MediaRoom } from "./media.ts";

/**
 * What a tool gave, for a model: texts as they are, structured content as JSON, and everything else named by its kind and
 * size, with the number of the attachment where a model may be shown it.
 */
export const readOutcome = (
  outcome: ToolOutcome,
  room: MediaRoom,
): { readonly text: string; readonly media: readonly Media[] } => {
  const media: Media[] = [];
  const attach = (mediaType: string, base64: string): string => {
    const bytes = Buffer.byteLength(base64, "base64");
    const one = mediaOf(mediaType, base64);
    if (one === undefined || !room.take(bytes)) return `${bytes} bytes, not shown`;
    media.push(one);
    return `${bytes} bytes, attachment ${media.length}`;
  };
  const texts = outcome.content.map((content) => contentText(content, attach));
  // Servers repeat structured content as text for those who read only that.
  const saysAll = outcome.content.some((content) => content.type === "text");
  if (outcome.structured !== undefined && !saysAll) texts.push(JSON.stringify(outcome.structured));
  return { text: texts.join("\n"), media };
};

const contentText = (content: ToolContent, attach: (mediaType: string, base64: string) => string): string => {
  switch (content.type) {
    case "text":
      return content.text;
    case "image":
      return `[image ${content.mediaType}, ${attach(content.mediaType, content.base64)}]`;
    case "resource": {
      const { uri, mediaType, text, base64 } = content;
      const kind = mediaType === undefined ? "" : ` ${mediaType}`;
      if (text !== undefined) return `[resource ${uri}${kind}]\n${text}`;
      return `[resource ${uri}${kind}, ${base64 === undefined ? "0 bytes" : attach(mediaType ?? "", base64)}]`;
    }
  }
};
