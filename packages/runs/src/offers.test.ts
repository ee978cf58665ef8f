import { CHANNELS } from "@shaman/queue";
import { localFanOut } from "@shaman/testkit";
import { expect, test } from "vitest";
import { tellOffer, watchOffers, type ClosedTo } from "./offers.ts";

const given = async () => {
  const fanOut = localFanOut();
  let now = 0;
  const offers = await watchOffers({ fanOut, clock: { now: () => now } });
  const tell = (worker: string, closedTo: ClosedTo = []): void =>
    tellOffer(fanOut, { worker, address: `at-${worker}`, leaseMs: 5_000, closedTo });
  const find = (orgId: string): string | undefined => offers.find(orgId)?.worker;
  return { fanOut, offers, tell, find, wait: (ms: number) => void (now += ms) };
};

test("gives nobody where nobody offers, and each worker in turn where several do", async () => {
  const { tell, find } = await given();
  expect(find("a")).toBeUndefined();
  tell("w1");
  tell("w2");
  expect([find("a"), find("a"), find("b"), find("a")]).toEqual(["w1", "w2", "w1", "w2"]);
});

test("an offer holds until it is withdrawn, or as long as it is told again", async () => {
  const { tell, find, wait } = await given();
  tell("w1");
  wait(1_400);
  tell("w1");
  wait(1_400);
  expect(find("a")).toBe("w1");
  wait(200);
  expect(find("a")).toBeUndefined();
  tell("w1");
  tell("w1", "everybody");
  expect(find("a")).toBeUndefined();
});

test("gives a worker no runs of organizations to which it is closed, and whoever says nonsense nothing", async () => {
  const { fanOut, tell, find } = await given();
  tell("w1", ["a"]);
  expect([find("a"), find("b")]).toEqual([undefined, "w1"]);
  tell("w2");
  expect([find("a"), find("a")]).toEqual(["w2", "w2"]);
  fanOut.publish(CHANNELS.offers, "no JSON");
  fanOut.publish(CHANNELS.offers, '{"worker": "w3"}');
  tell("w2", "everybody");
  expect(find("a")).toBeUndefined();
});
