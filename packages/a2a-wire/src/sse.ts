/**
 * Splits a byte stream into the data of its server-sent events (WHATWG HTML §9.2.6). Comments, ids, retry and event
 * names are passed over. Throws a RangeError on an event larger than `maxBytes`.
 */
export async function* readSse(
  bytes: AsyncIterable<Uint8Array>,
  maxBytes: number,
): AsyncGenerator<string, void, undefined> {
  for await (const events of readSseTogether(bytes, maxBytes)) yield* events;
}

/** The same, with the events that came in one piece together. */
export async function* readSseTogether(
  bytes: AsyncIterable<Uint8Array>,
  maxBytes: number,
): AsyncGenerator<readonly string[], void, undefined> {
  const decoder = new TextDecoder();
  let rest = "";
  let data: string[] = [];
  let size = 0;
  const tooLarge = (): RangeError => new RangeError(`A server-sent event is larger than ${maxBytes} bytes`);
  for await (const chunk of bytes) {
    // What was there before holds no end of a line; looking through it again would make long lines dear.
    const searched = rest.length;
    rest += decoder.decode(chunk, { stream: true });
    let from = 0;
    const events: string[] = [];
    for (let end = rest.indexOf("\n", searched); end >= 0; end = rest.indexOf("\n", from)) {
      const line = rest.charCodeAt(end - 1) === 13 && end > from ? rest.slice(from, end - 1) : rest.slice(from, end);
      from = end + 1;
      if (line.startsWith("data:")) {
        size += line.length;
        if (size > maxBytes) break;
        data.push(line.charCodeAt(5) === 32 ? line.slice(6) : line.slice(5));
      } else if (line === "" && data.length > 0) {
        events.push(data.length === 1 ? (data[0] ?? "") : data.join("\n"));
        data = [];
        size = 0;
      }
    }
    rest = rest.slice(from);
    // What came before the one that is too large is told first.
    if (events.length > 0) yield events;
    if (size > maxBytes || rest.length > maxBytes) throw tooLarge();
  }
}
