import { expect, test } from "vitest";
import { createSupervisor, type Running, type Service, type Supervisor } from "./supervisor.ts";

/** A service whose life the test decides. */
const controlled = (name: string, events: string[]) => {
  const ends: ((how: string) => void)[] = [];
  let starts = 0;
  const service: Service = {
    name,
    spawn: (): Running => {
      starts += 1;
      events.push(`${name} starts`);
      const exited = new Promise<string>((resolve) => ends.push(resolve));
      const stop = async (): Promise<void> => {
        events.push(`${name} stops`);
        ends.at(-1)?.("was stopped");
        await exited;
      };
      return { pid: starts, exited, stop };
    },
    ready: async () => void events.push(`${name} ready`),
  };
  return { service, end: (how: string) => ends.at(-1)?.(how) };
};

const supervise = (events: string[]): { supervisor: Supervisor; replaced: () => Promise<void> } => {
  const waiting: (() => void)[] = [];
  const supervisor = createSupervisor({
    log: (name, line) => void events.push(`${name} ${line}`),
    onReplaced: () => waiting.shift()?.(),
    backoff: { firstMs: 1, maxMs: 4 },
  });
  return { supervisor, replaced: () => new Promise((resolve) => waiting.push(resolve)) };
};

test("services start one after the other is ready and stop in reverse order, once", async () => {
  const events: string[] = [];
  const { supervisor } = supervise(events);
  await supervisor.start(controlled("a", events).service);
  await supervisor.start(controlled("b", events).service);
  await Promise.all([supervisor.stop(), supervisor.stop()]);
  expect(events).toEqual(["a starts", "a ready", "b starts", "b ready", "b stops", "a stops"]);
});

test("a service that ends is started again, said so, and has a new process", async () => {
  const events: string[] = [];
  const { supervisor, replaced } = supervise(events);
  const a = controlled("a", events);
  await supervisor.start(a.service);
  expect(supervisor.processes()).toEqual([{ name: "a", pid: 1 }]);
  const first = replaced();
  a.end("was ended by signal SIGKILL");
  await first;
  expect(supervisor.processes()).toEqual([{ name: "a", pid: 2 }]);
  expect(events).toContain("a was ended by signal SIGKILL; it is started again in 0.001 s.");
  await supervisor.stop();
});

test("a service that ends again and again is started later each time, up to a bound", async () => {
  const events: string[] = [];
  const { supervisor, replaced } = supervise(events);
  const a = controlled("a", events);
  await supervisor.start(a.service);
  for (const seconds of [0.001, 0.002, 0.004, 0.004]) {
    const next = replaced();
    a.end("ended");
    await next;
    expect(events).toContain(`a ended; it is started again in ${seconds} s.`);
  }
  await supervisor.stop();
});

test("a service that ends before it is ready fails the start with its name", async () => {
  const events: string[] = [];
  const { supervisor } = supervise(events);
  const a = controlled("a", events);
  const never: Service = { ...a.service, ready: () => new Promise(() => undefined) };
  const started = supervisor.start(never);
  await Promise.resolve();
  a.end("ended with status 1");
  await expect(started).rejects.toThrow("a ended with status 1 before it was ready");
  await supervisor.stop();
});

test("a stop in the middle of a start stops what was started and starts nothing more", async () => {
  const events: string[] = [];
  const { supervisor } = supervise(events);
  const slow: Service = {
    ...controlled("slow", events).service,
    ready: (signal) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener("abort", () => reject(new Error("stopped")));
      }),
  };
  const started = supervisor.start(slow);
  await supervisor.stop();
  await expect(started).rejects.toThrow();
  await expect(supervisor.start(controlled("next", events).service)).rejects.toThrow();
  expect(events).toEqual(["slow starts", "slow stops"]);
});

test("a service that ends while everything stops is not started again", async () => {
  const events: string[] = [];
  const { supervisor } = supervise(events);
  const a = controlled("a", events);
  await supervisor.start(a.service);
  await supervisor.stop();
  a.end("ended");
  expect(events.filter((event) => event === "a starts")).toHaveLength(1);
});
