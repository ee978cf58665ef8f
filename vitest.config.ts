import { defineConfig } from "vitest/config";

const notTests = ["**/node_modules/**", ".shaman/**"];
const integrationTests = "**/*.integration.test.ts";

export default defineConfig({
  test: {
    // A test that a forgotten `.only` would skip must not look green.
    allowOnly: false,
    // Most of a test's time is waiting for other processes: by itself, vitest would use one core of two.
    maxWorkers: "100%",
    projects: [
      {
        test: {
          name: "unit",
          include: ["**/*.test.ts"],
          exclude: [...notTests, integrationTests],
          testTimeout: 20_000,
          hookTimeout: 20_000,
        },
      },
      {
        test: {
          name: "integration",
          globalSetup: ["packages/testkit/src/postgres-setup.ts"],
          include: [integrationTests],
          exclude: notTests,
          // Databases and processes of several files share two cores: generous, because no test asserts on time.
          testTimeout: 90_000,
          hookTimeout: 90_000,
        },
      },
    ],
  },
});
