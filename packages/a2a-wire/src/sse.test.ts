import { describe, expect, test } from "vitest";
import { readSse } from "./sse.ts";

const read = async (chunks: readonly Uint8Array[], maxBytes = 1_000): Promise<string[]> => {
  const events: string[] = [];
  for await (const event of readSse(ReadableStream.from(chunks), maxBytes)) events.push(event);
  return events;
};

describe("a stream of server-sent events", () => {
  const text = ': hello\n\ndata: {"a":"ü"}\n\nevent: x\nid: 7\ndata:one\r\ndata: two\r\n\r\nretry: 5\n\ndata: cut off';

  test("gives the data of each whole event, several lines joined, and passes over the rest", async () => {
    expect(await read([Buffer.from(text)])).toEqual(['{"a":"ü"}', "one\ntwo"]);
  });

  test("reads the same wherever the bytes are cut", async () => {
    const bytes = Buffer.from(text);
    for (let at = 1; at < bytes.length; at += 1) {
      expect(await read([bytes.subarray(0, at), bytes.subarray(at)])).toEqual(['{"a":"ü"}', "one\ntwo"]);
    }
    expect(await read([...bytes].map((byte) => Uint8Array.of(byte)))).toEqual(['{"a":"ü"}', "one\ntwo"]);
  });

  test("gives what came before an event beyond its limit, in the same piece", async () => {
    const seen: string[] = [];
    const events = readSse(ReadableStream.from([Buffer.from(`data: first\n\ndata: ${"x".repeat(2_000)}\n\n`)]), 1_000);
    const reading = async (): Promise<void> => {
      for await (const event of events) seen.push(event);
    };
    await expect(reading()).rejects.toThrow(RangeError);
    expect(seen).toEqual(["first"]);
  });

  test("refuses an event beyond its limit, in one line or in many", async () => {
    await expect(read([Buffer.from(`data: ${"x".repeat(2_000)}`)])).rejects.toThrow(RangeError);
    await expect(read([Buffer.from("data: 123456789\n".repeat(200))])).rejects.toThrow(RangeError);
  });
});
