import { once } from "node:events";
import { createServer } from "node:net";
import { unwrap } from "@shaman/kernel";
import { describe, expect, test } from "vitest";
import { isPortFree, portTaken, readPorts } from "./ports.ts";

describe("--port", () => {
  test("moves all ports together", () => {
    expect(unwrap(readPorts([]))).toEqual({
      public: 5000,
      internal: 5001,
      workerHealth: 5003,
      tools: 5005,
      postgres: 5010,
    });
    const moved = { public: 6000, internal: 6001, workerHealth: 6003, tools: 6005, postgres: 6010 };
    expect(unwrap(readPorts(["--port", "6000"]))).toEqual(moved);
    expect(unwrap(readPorts(["--port=6000"]))).toEqual(moved);
  });

  test.each([["--port", "0"], ["--port", "65530"], ["--port", "x"], ["--port"], ["--prot", "6000"], ["6000"]])(
    "%s %s is refused with a sentence",
    (...args) => {
      const read = readPorts(args);
      expect(read.ok ? "accepted" : read.error.code).toBe("invalid_argument");
    },
  );
});

test.each(["127.0.0.1", "0.0.0.0"])(
  "a port that another program has on %s is not free, and one that it gave back is",
  async (host) => {
    const server = createServer().listen(0, host);
    await once(server, "listening");
    const address = server.address();
    const port = address !== null && typeof address === "object" ? address.port : 0;
    expect(await isPortFree(port)).toBe(false);
    server.close();
    await once(server, "close");
    expect(await isPortFree(port)).toBe(true);
  },
);

test("the sentence for a taken port names the port and the way out", () => {
  const { message } = portTaken("the public A2A server", 5000, unwrap(readPorts([])));
  expect(message).toContain("Port 5000");
  expect(message).toContain("npm start -- --port 6000");
});
