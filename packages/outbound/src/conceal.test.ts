import { expect, test } from "vitest";
import { conceal } from "./conceal.ts";

const TOKEN = "0123456789-abcdef-abcdef";

/** The text that is left of an answer that came in these pieces. */
const leftOf = async (pieces: readonly string[], credentials: readonly string[]): Promise<string> => {
  const body = new ReadableStream({
    start: (controller) => {
      for (const piece of pieces) controller.enqueue(Buffer.from(piece));
      controller.close();
    },
  });
  return conceal(new Response(body), credentials).text();
};

test("a credential is taken out of an answer, wherever the network cuts it", async () => {
  const text = `{"you sent": "${TOKEN}", "again": "${TOKEN}${TOKEN}"}`;
  for (let at = 0; at <= text.length; at += 1) {
    const pieces = [text.slice(0, at), text.slice(at)];
    expect(await leftOf(pieces, [TOKEN])).toBe('{"you sent": "[secret]", "again": "[secret][secret]"}');
  }
  expect(await leftOf(text.split(""), [TOKEN])).not.toContain(TOKEN);
});

test("so is what follows the scheme, and the longer one of two where one begins like the other", async () => {
  expect(await leftOf([`token ${TOKEN}, header Bearer ${TOKEN}`], [`Bearer ${TOKEN}`])).toBe(
    "token [secret], header [secret]",
  );
  expect(await leftOf([`${TOKEN}-more`], [TOKEN, `${TOKEN}-more`])).toBe("[secret]");
});

test("the rest passes byte by byte as it came, also what only begins like one, and short values are none", async () => {
  const text = `${TOKEN.slice(0, -1)} ü 0123456789-abc`;
  expect(await leftOf(text.split(""), [TOKEN, "eu"])).toBe(text);
  expect(await leftOf(["queue in eu"], ["eu"])).toBe("queue in eu");
});

test("what has come is passed on at once, and nobody who stops reading leaves the answer open", async () => {
  const canceled = Promise.withResolvers<unknown>();
  const body = new ReadableStream({
    start: (controller) => controller.enqueue(Buffer.from(`first, then ${TOKEN.slice(0, 5)}`)),
    cancel: canceled.resolve,
  });
  const reader = conceal(new Response(body), [TOKEN]).body?.getReader();
  expect(Buffer.from((await reader?.read())?.value ?? []).toString()).toBe("first, then ");
  await reader?.cancel("enough");
  expect(await canceled.promise).toBe("enough");
});
