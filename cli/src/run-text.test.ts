import { expect, test } from "vitest";
import { beganBy, textOfParts } from "./run-text.ts";

test("texts of a message follow each other as they are, everything else stands on a line of its own", () => {
  const parts = [
    { text: "It " },
    { text: "waits." },
    { data: { id: 1 } },
    { raw: "AAAA", mediaType: "image/png" },
    { text: "End" },
  ];
  expect(textOfParts(parts)).toBe('It waits.\n{"id":1}\n[image/png, 3 bytes]\nEnd');
});

test("a run was begun by the key that is named, else by the user, else by whom it was told of", () => {
  const run = { apiKeyName: "Web shop", userName: "Ada", principal: "user:user_1" };
  expect(beganBy(run)).toBe("Web shop");
  expect(beganBy({ ...run, apiKeyName: null })).toBe("Ada");
  expect(beganBy({ ...run, apiKeyName: null, userName: null })).toBe("user:user_1");
});
