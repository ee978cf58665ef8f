import type { CallToolResult, GetPromptResult, ReadResourceResult } from "@modelcontextprotocol/sdk/types.js";
import { z } from "zod";
import type { ToolContent, ToolOutcome } from "../tool.ts";

export type OutputLimits = { readonly maxOutputBytes: number; readonly maxMediaBytes: number };

type Block = CallToolResult["content"][number];
type Contents = ReadResourceResult["contents"][number];

const MAX_BLOCKS = 200;

const text = (value: string): ToolContent => ({ type: "text", text: value });

const resourceContent = (contents: Contents): ToolContent => ({
  type: "resource",
  uri: contents.uri,
  ...(contents.mimeType !== undefined && { mediaType: contents.mimeType }),
  ...("text" in contents ? { text: contents.text } : { base64: contents.blob }),
});

const blockContent = (block: Block): ToolContent => {
  switch (block.type) {
    case "text":
      return text(block.text);
    case "image":
      return { type: "image", mediaType: block.mimeType, base64: block.data };
    case "audio":
      return { type: "resource", uri: "audio:", mediaType: block.mimeType, base64: block.data };
    case "resource":
      return resourceContent(block.resource);
    case "resource_link": {
      const { uri, mimeType, name, description } = block;
      const about = [name, description].filter((part) => part !== undefined).join(": ");
      return { type: "resource", uri, text: about, ...(mimeType !== undefined && { mediaType: mimeType }) };
    }
  }
};

/** The first bytes of a text, cut between characters. */
const cut = (value: string, maxBytes: number): string => {
  const bytes = Buffer.from(value);
  if (bytes.length <= maxBytes) return value;
  // A character that was cut in half decodes to one replacement, which is dropped.
  return bytes
    .subarray(0, maxBytes)
    .toString()
    .replace(/\uFFFD$/, "");
};

/** Keeps what fits, and says in the place of the rest how much is missing. */
const capped = (content: readonly ToolContent[], limits: OutputLimits): readonly ToolContent[] => {
  let textLeft = limits.maxOutputBytes;
  let mediaLeft = limits.maxMediaBytes;
  const fitText = (value: string): string => {
    const bytes = Buffer.byteLength(value);
    const kept = cut(value, textLeft);
    textLeft = Math.max(0, textLeft - bytes);
    const missing = bytes - Buffer.byteLength(kept);
    return missing === 0 ? kept : `${kept}\n[${missing} more bytes were left out]`;
  };
  const fits = (base64: string): boolean => {
    if (base64.length > mediaLeft) return false;
    mediaLeft -= base64.length;
    return true;
  };
  const fit = (each: ToolContent): ToolContent => {
    if (each.type === "text") return text(fitText(each.text));
    const { base64 } = each;
    if (base64 !== undefined && !fits(base64)) {
      const what = each.type === "image" ? `image ${each.mediaType}` : `resource ${each.uri.slice(0, 500)}`;
      return text(`[The ${what} of ${base64.length} base64 characters was left out: it is too large]`);
    }
    return each.type === "resource" && each.text !== undefined ? { ...each, text: fitText(each.text) } : each;
  };
  const kept = content.slice(0, MAX_BLOCKS).map(fit);
  const missing = content.length - kept.length;
  return missing === 0 ? kept : [...kept, text(`[${missing} more pieces were left out]`)];
};

export const failure = (sentence: string): ToolOutcome => ({ content: [text(sentence)], isError: true });

/** What a tool gave back, typed and within limits. */
export const toolOutcome = (result: CallToolResult, limits: OutputLimits): ToolOutcome => {
  const content = [...capped(result.content.map(blockContent), limits)];
  const isError = result.isError === true;
  const { structuredContent } = result;
  if (structuredContent === undefined) return { content, isError };
  const structured = z.json().parse(structuredContent);
  const bytes = Buffer.byteLength(JSON.stringify(structured));
  if (bytes <= limits.maxOutputBytes) return { content, structured, isError };
  return {
    content: [...content, text(`[Structured content of ${bytes} bytes was left out: it is too large]`)],
    isError,
  };
};

export const resourceOutcome = (result: ReadResourceResult, limits: OutputLimits): ToolOutcome => ({
  content: capped(result.contents.map(resourceContent), limits),
  isError: false,
});

export const promptOutcome = (result: GetPromptResult, limits: OutputLimits): ToolOutcome => {
  const messages = result.messages.flatMap(({ role, content }) => [text(`${role}:`), blockContent(content)]);
  const about = result.description === undefined ? [] : [text(result.description)];
  return { content: capped([...about, ...messages], limits), isError: false };
};

/** A list of things that a server names, as JSON text. */
export const listOutcome = (list: unknown, limits: OutputLimits): ToolOutcome => ({
  content: capped([text(JSON.stringify(list))], limits),
  isError: false,
});
