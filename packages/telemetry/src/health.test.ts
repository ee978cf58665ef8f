import { AppError } from "@shaman/kernel";
import { fastify } from "fastify";
import { expect, test } from "vitest";
import { healthRoutes, type HealthCheck } from "./health.ts";

const ask = async (path: string, checks: readonly HealthCheck[]) => {
  const app = fastify();
  await app.register(healthRoutes({ checks, isReady: () => true }));
  const { statusCode, body } = await app.inject(path);
  await app.close();
  return { statusCode, body: JSON.parse(body) };
};
const well = { name: "database", check: async () => undefined };
const away = {
  name: "storage",
  check: () =>
    Promise.reject(
      new AppError({
        code: "storage_denied",
        kind: "operational",
        message: "There is no bucket b",
        publicMessage: "The store refuses access.",
      }),
    ),
};

test("what a process can do without shows in its health and keeps no traffic away", async () => {
  const checks = [well, { ...away, optional: true } as const];
  expect(await ask("/health", checks)).toEqual({
    statusCode: 200,
    body: {
      status: "degraded",
      checks: [
        { name: "database", ok: true },
        { name: "storage", ok: false, error: "The store refuses access." },
      ],
    },
  });
  expect(await ask("/ready", checks)).toMatchObject({ statusCode: 200, body: { ready: true } });
});

test("what it cannot do without keeps traffic away", async () => {
  expect(await ask("/ready", [well, away])).toMatchObject({ statusCode: 503, body: { ready: false } });
});

test("tells a driver's code and not its words, which name hosts and users", async () => {
  const words = Object.assign(new Error('password authentication failed for user "shaman_public"'), { code: "28P01" });
  const { body } = await ask("/health", [{ name: "database", check: () => Promise.reject(words) }]);
  expect(body.checks).toEqual([{ name: "database", ok: false, error: "not available (28P01)" }]);
});
