import { createServer, request, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { once } from "node:events";
import { expect, onTestFinished, test } from "vitest";
import { writeEventStream } from "./event-stream.ts";

/** Serves the events to one reader; gives the answer, unread, and what became of the writing. */
const given = async (events: AsyncIterable<string>) => {
  const written = Promise.withResolvers<void>();
  written.promise.catch(() => undefined);
  const server = createServer((_request, response) => {
    writeEventStream(response, events).then(written.resolve, written.reject);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  const asked = request({ host: "127.0.0.1", port }).end();
  const [answer] = (await once(asked, "response")) as [IncomingMessage];
  return { answer, written: written.promise };
};

const chunksOf = async (answer: IncomingMessage): Promise<readonly string[]> => {
  const chunks: string[] = [];
  for await (const chunk of answer.setEncoding("utf8")) chunks.push(String(chunk));
  return chunks;
};

test("what comes in one go is one chunk, and the headers do not wait for the first event", async () => {
  const later = Promise.withResolvers<void>();
  const { answer, written } = await given(
    (async function* () {
      await later.promise;
      for (let i = 0; i < 5; i += 1) yield `{"n":${i}}`;
    })(),
  );
  expect(answer.headers["content-type"]).toContain("text/event-stream");
  later.resolve();
  expect(await chunksOf(answer)).toEqual([[0, 1, 2, 3, 4].map((n) => `data: {"n":${n}}\n\n`).join("")]);
  await written;
});

test("a reader who takes nothing is not run away from, and gets everything once he reads", async () => {
  let asked = 0;
  const event = JSON.stringify("x".repeat(10_000));
  const { answer, written } = await given(
    (async function* () {
      for (; asked < 5_000; asked += 1) yield event;
    })(),
  );
  answer.pause();
  // Whatever Node and the system buffer is full when nothing more is asked for over many turns.
  for (let before = -1, turns = 0; turns < 200; turns += 1) {
    await new Promise(setImmediate);
    if (asked !== before) turns = 0;
    before = asked;
  }
  expect(asked).toBeLessThan(2_500);
  const text = (await chunksOf(answer)).join("");
  expect(text).toBe(`data: ${event}\n\n`.repeat(5_000));
  await written;
});

test("where the events break off, the reader has what came before and no end", async () => {
  const { answer, written } = await given(
    (async function* () {
      yield "1";
      throw new Error("broken");
    })(),
  );
  await expect(written).rejects.toThrow("broken");
  let seen = "";
  const read = async (): Promise<void> => {
    for await (const chunk of answer.setEncoding("utf8")) seen += String(chunk);
  };
  await expect(read()).rejects.toThrow("aborted");
  expect(seen).toBe("data: 1\n\n");
});
