import { CHANNELS } from "@shaman/queue";
import { localFanOut } from "@shaman/testkit";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { tellOffer, watchOffers, type ClosedTo } from "./offers.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const given = async () => {
  const fanOut = localFanOut();
  const offers = await watchOffers({ fanOut });
  const tell = (worker: string, closedTo: ClosedTo = []): void =>
    tellOffer(fanOut, { worker, address: worker.padEnd(20, "0"), leaseMs: 5_000, closedTo });
  const find = (orgId: string): string | undefined => offers.find(orgId)?.worker;
  return { fanOut, offers, tell, find };
};

test("gives nobody where nobody offers, and each worker in turn where several do", async () => {
  const { tell, find } = await given();
  expect(find("a")).toBeUndefined();
  tell("w1");
  tell("w2");
  expect([find("a"), find("a"), find("b"), find("a")]).toEqual(["w1", "w2", "w1", "w2"]);
});

test("an offer holds until it is withdrawn, or as long as it is told again", async () => {
  const { tell, find } = await given();
  tell("w1");
  vi.advanceTimersByTime(1_400);
  tell("w1");
  vi.advanceTimersByTime(1_400);
  expect(find("a")).toBe("w1");
  vi.advanceTimersByTime(200);
  expect(find("a")).toBeUndefined();
  tell("w1");
  tell("w1", "everybody");
  expect(find("a")).toBeUndefined();
});

test("gives a worker no runs of organizations to which it is closed, and none where too many wait to be told", async () => {
  const { tell, find } = await given();
  tell("w1", ["a"]);
  expect([find("a"), find("b")]).toEqual([undefined, "w1"]);
  tell("w2");
  expect([find("a"), find("a")]).toEqual(["w2", "w2"]);
  tell("w2", "everybody");
  expect(find("a")).toBeUndefined();
  tell(
    "w1",
    Array.from({ length: 101 }, (_, i) => `org_${i}`),
  );
  expect(find("b")).toBeUndefined();
});

test.each([
  ["is no JSON", "no JSON"],
  ["says too little", { worker: undefined }],
  ["wants leases for ever", { leaseMs: 2_147_483_647 }],
  ["wants leases that have run out", { leaseMs: -1 }],
  ["is at an address that is none", { address: "x".repeat(100) }],
  ["is of another version", { form: 1 }],
])("an offer that %s is none", async (_what, wrong) => {
  const { fanOut, find } = await given();
  const good = { form: 2, worker: "w1", address: "0".repeat(20), leaseMs: 5_000, closedTo: [] };
  const say = (offer: unknown): void => fanOut.publish(CHANNELS.offers, JSON.stringify(offer));
  if (typeof wrong === "string") fanOut.publish(CHANNELS.offers, wrong);
  else say({ ...good, ...wrong });
  expect(find("a")).toBeUndefined();
  say(good);
  expect(find("a")).toBe("w1");
});
