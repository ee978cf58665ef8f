/** A Markdown file cut at its front matter. `bodyAt` is where the body begins in the text. */
export type FrontMatter =
  | { readonly kind: "none" }
  | { readonly kind: "broken"; readonly line: number; readonly message: string }
  | { readonly kind: "found"; readonly yaml: string; readonly firstLine: number; readonly bodyAt: number };

const FENCE = "---";

const lineEnd = (text: string, from: number): number => {
  const at = text.indexOf("\n", from);
  return at === -1 ? text.length : at;
};

/**
 * Cuts the front matter off. Only `---` alone on the first line opens it: words after the dashes, by which other tools
 * choose a language to run, are refused.
 */
export const splitFrontMatter = (text: string): FrontMatter => {
  const firstEnd = lineEnd(text, 0);
  const first = text.slice(0, firstEnd).trimEnd();
  if (!first.startsWith(FENCE) || first.startsWith("----")) return { kind: "none" };
  if (first !== FENCE) {
    return {
      kind: "broken",
      line: 1,
      message: `front matter must begin with --- alone on its line, and is always YAML; found ${JSON.stringify(first.slice(0, 40))}`,
    };
  }
  let at = firstEnd + 1;
  while (at < text.length) {
    const end = lineEnd(text, at);
    if (text.slice(at, end).trimEnd() === FENCE) {
      return {
        kind: "found",
        yaml: text.slice(firstEnd + 1, at),
        firstLine: 2,
        bodyAt: Math.min(end + 1, text.length),
      };
    }
    at = end + 1;
  }
  return { kind: "broken", line: 1, message: "front matter is not closed: end it with --- alone on a line" };
};
