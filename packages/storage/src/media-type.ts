/** How many of the first bytes `contradicts` looks at. */
export const SNIFFED_BYTES = 1_024;

const ascii = (text: string): readonly number[] => [...Buffer.from(text, "latin1")];

type Signature = { readonly at: number; readonly bytes: readonly number[] };

const at = (offset: number, ...bytes: readonly number[]): Signature => ({ at: offset, bytes });

/** What content of a kind begins with; one of the alternatives, all signatures of it. */
const KINDS: Readonly<Record<string, readonly (readonly Signature[])[]>> = {
  "image/png": [[at(0, 0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a)]],
  "image/jpeg": [[at(0, 0xff, 0xd8, 0xff)]],
  "image/gif": [[at(0, ...ascii("GIF87a"))], [at(0, ...ascii("GIF89a"))]],
  "image/webp": [[at(0, ...ascii("RIFF")), at(8, ...ascii("WEBP"))]],
  "image/bmp": [[at(0, ...ascii("BM"))]],
  "image/tiff": [[at(0, 0x49, 0x49, 0x2a, 0)], [at(0, 0x4d, 0x4d, 0, 0x2a)]],
  "application/pdf": [[at(0, ...ascii("%PDF-"))]],
  "application/gzip": [[at(0, 0x1f, 0x8b)]],
  "application/zip": [[at(0, 0x50, 0x4b, 3, 4)], [at(0, 0x50, 0x4b, 5, 6)]],
  "audio/wav": [[at(0, ...ascii("RIFF")), at(8, ...ascii("WAVE"))]],
  "audio/ogg": [[at(0, ...ascii("OggS"))]],
  "audio/mpeg": [[at(0, ...ascii("ID3"))], [at(0, 0xff, 0xfb)], [at(0, 0xff, 0xf3)], [at(0, 0xff, 0xf2)]],
  "video/mp4": [[at(4, ...ascii("ftyp"))]],
  "video/webm": [[at(0, 0x1a, 0x45, 0xdf, 0xa3)]],
};

/** Kinds too short or too common in other content to be told from it by their beginning alone. */
const WEAK = new Set(["image/bmp", "audio/mpeg", "application/gzip", "video/mp4"]);

/** Formats that are zip archives by their nature. */
const ZIPPED =
  /^application\/(?:vnd\.openxmlformats-officedocument\..+|vnd\.oasis\.opendocument\..+|epub\+zip|java-archive)$/;

const MARKUP =
  /^(?:\uFEFF|\s|<!--[\s\S]*?-->|<\?xml[\s\S]*?\?>)*<(?:!doctype\s+html|html|head|body|script|iframe|svg)[\s>/]/i;

/** File names whose content programs run or render, and what it must then be declared as. */
const ACTIVE_NAMES: readonly { readonly name: RegExp; readonly types: RegExp }[] = [
  { name: /\.x?html?$/i, types: /^(?:text\/html|application\/xhtml\+xml)$/ },
  { name: /\.svgz?$/i, types: /^image\/svg\+xml$/ },
  { name: /\.[cm]?js$/i, types: /^(?:text|application)\/(?:x-)?(?:javascript|ecmascript)$/ },
];

const MAY_HOLD_MARKUP = /^(?:text\/html|application\/xhtml\+xml|image\/svg\+xml|application\/octet-stream)$/;
const TEXTUAL = /^(?:text\/.+|.+\/(?:json|xml|javascript|ecmascript|yaml|x-ndjson)|.+\+(?:json|xml|yaml))$/;

const matches = (head: Uint8Array, signatures: readonly Signature[]): boolean =>
  signatures.every((one) => one.bytes.every((byte, i) => head[one.at + i] === byte));

const begins = (head: Uint8Array, kind: string): boolean =>
  KINDS[kind]?.some((signatures) => matches(head, signatures)) === true;

/**
 * Why content that begins like this, under this file name, cannot be what it is declared as; nothing when it may be. It
 * knows the common kinds, and that markup and scripts must not pass for something else.
 */
export const contradicts = (content: {
  readonly head: Uint8Array;
  readonly mediaType: string;
  readonly fileName?: string | undefined;
}): string | undefined => {
  const { head, fileName = "" } = content;
  const declared = essenceOf(content.mediaType);
  const active = ACTIVE_NAMES.find(({ name }) => name.test(fileName));
  if (active !== undefined && !active.types.test(declared)) return `${fileName} is not a name for ${declared}`;
  if (head.byteLength === 0) return undefined;
  if (KINDS[declared] !== undefined && !begins(head, declared)) return `the content is no ${declared}`;
  if (ZIPPED.test(declared) && !begins(head, "application/zip")) return `the content is no ${declared}`;
  if (
    !MAY_HOLD_MARKUP.test(declared) &&
    MARKUP.test(
      Buffer.from(head)
        .toString("latin1")
        .replace(/^\u00EF\u00BB\u00BF/, ""),
    )
  ) {
    return `the content is HTML or SVG, not ${declared}`;
  }
  if (!TEXTUAL.test(declared)) return undefined;
  const kind = Object.keys(KINDS).find((one) => !WEAK.has(one) && begins(head, one));
  if (kind !== undefined) return `the content is ${kind}, not ${declared}`;
  return head.includes(0) ? `the content is not text, and ${declared} is` : undefined;
};

/** The media type without its parameters, in lower case. */
export const essenceOf = (mediaType: string): string => (mediaType.split(";")[0] ?? "").trim().toLowerCase();

/** Whether content of this type is text in some character set, which here is always UTF-8. */
export const isTextual = (mediaType: string): boolean => TEXTUAL.test(essenceOf(mediaType));
