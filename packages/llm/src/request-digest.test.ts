import { expect, test } from "vitest";

import type { ModelMessage, ModelRequest } from "./model-port.ts";
import { digestOf } from "./request-digest.ts";

const { signal } = new AbortController();
const request = (messages: readonly ModelMessage[]): ModelRequest => ({
  model: "openai/m",
  messages,
  tools: [],
  turn: 1,
  messageId: "m",
  signal,
});

const conversation = (ids: readonly [string, string], answers: readonly [string, string] = ids): ModelMessage[] => [
  { role: "system", text: "Be brief." },
  { role: "user", text: "go" },
  {
    role: "assistant",
    text: "",
    toolCalls: ids.map((id) => ({ id, name: "look", input: { b: 1, a: { d: 2, c: 3 } } })),
  },
  {
    role: "tool",
    results: answers.map((toolCallId) => ({ toolCallId, toolName: "look", output: "red", isError: false })),
  },
];

test("the ids that a provider made up for calls do not count, but which result belongs to which call does", () => {
  const one = digestOf(request(conversation(["call_x", "call_y"])));
  expect(digestOf(request(conversation(["toolu_1", "toolu_2"])))).toEqual(one);
  expect(digestOf(request(conversation(["call_x", "call_y"], ["call_y", "call_x"])))).not.toEqual(one);
});

test("the order of keys does not count, which a database may change", () => {
  const [one, other] = [
    { b: 1, a: { d: 2, c: 3 } },
    { a: { c: 3, d: 2 }, b: 1 },
  ].map((input) => digestOf(request([{ role: "assistant", text: "", toolCalls: [{ id: "c", name: "t", input }] }])));
  expect(one).toEqual(other);
});

test("a part that changes changes its own digest and no other", () => {
  const one = digestOf(request(conversation(["a", "b"])));
  const warmer = digestOf({ ...request(conversation(["a", "b"])), temperature: 1 });
  expect({ ...warmer, settings: one.settings }).toEqual(one);
  const tools = [{ name: "t", description: "", inputSchema: {} }];
  const equipped = digestOf({ ...request(conversation(["a", "b"])), tools });
  expect({ ...equipped, tools: one.tools }).toEqual(one);
  const later = digestOf({
    ...request(conversation(["a", "b"])),
    turn: 7,
    messageId: "n",
    model: "x/y",
    maxOutputTokens: 9,
  });
  expect(later).toEqual(one);
});

test("media count by their hash alone, wherever they stand", () => {
  const digests = (sha256: string, base64: string) => {
    const media = [{ mediaType: "image/png", sha256, base64 }];
    const results = [{ toolCallId: "a", toolName: "look", output: "red", isError: false, media }];
    const messages: readonly ModelMessage[][] = [[{ role: "user", text: "go", media }], [{ role: "tool", results }]];
    return messages.map((each) => digestOf(request(each)).messages);
  };
  const one = digests("aa", "AAAA");
  expect(digests("aa", "never read")).toEqual(one);
  const other = digests("bb", "AAAA");
  expect(other[0]).not.toBe(one[0]);
  expect(other[1]).not.toBe(one[1]);
});
