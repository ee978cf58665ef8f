import { createServer, type IncomingMessage, type RequestListener } from "node:http";
import { gzipSync } from "node:zlib";

import { AppError } from "@shaman/kernel";
import { request } from "undici";
import { afterEach, describe, expect, test } from "vitest";

import { createOutbound, type Outbound, type OutboundOptions } from "./outbound.ts";

const closers: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

/** A real server on loopback; gives its port and what it was asked. */
const serve = async (
  listener: RequestListener,
): Promise<{ readonly port: number; readonly seen: IncomingMessage[] }> => {
  const seen: IncomingMessage[] = [];
  const server = createServer((incoming, outgoing) => {
    seen.push(incoming);
    listener(incoming, outgoing);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(
    () =>
      new Promise((resolve) => {
        server.close(resolve);
        server.closeAllConnections();
      }),
  );
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return { port: address.port, seen };
};

const open = (options: Partial<OutboundOptions> = {}): Outbound => {
  const outbound = createOutbound({ allowLoopback: true, mapLocalhost: true, allowHttp: true, ...options });
  closers.push(outbound.close);
  return outbound;
};

const failure = async (act: () => Promise<unknown>): Promise<AppError> => {
  try {
    await act();
  } catch (error) {
    if (error instanceof AppError) return error;
    throw error;
  }
  throw new Error("expected a failure");
};

const reasonOf = async (act: () => Promise<unknown>): Promise<unknown> => (await failure(act)).details?.["reason"];

const redirectTo =
  (location: () => string, status = 302): RequestListener =>
  (_incoming, outgoing) => {
    outgoing.writeHead(status, { location: location() }).end("moved");
  };

describe("a request through the guard", () => {
  test("brings back status, headers and body of a server it may reach, and keeps the Host", async () => {
    const { port, seen } = await serve((incoming, outgoing) => {
      incoming.pipe(outgoing.writeHead(201, { "x-answer": "yes" }));
    });
    const { fetch } = open();
    const answer = await fetch(`http://acme.localhost:${port}/a?b=c`, {
      method: "POST",
      body: "hello",
      headers: { authorization: "Bearer x" },
    });
    expect([answer.status, answer.headers.get("x-answer"), await answer.text()]).toEqual([201, "yes", "hello"]);
    expect(answer.url).toBe(`http://acme.localhost:${port}/a?b=c`);
    expect(seen[0]?.headers.host).toBe(`acme.localhost:${port}`);
    expect(seen[0]?.headers.authorization).toBe("Bearer x");
  });

  test("is refused before a connection when the literal or the resolved address is not allowed", async () => {
    const { port, seen } = await serve((_incoming, outgoing) => void outgoing.end());
    const closed = open({ allowLoopback: false, resolve: () => Promise.resolve(["127.0.0.1"]) });
    expect(await reasonOf(() => closed.fetch(`http://127.0.0.1:${port}/`))).toBe("address");
    expect(await reasonOf(() => closed.fetch(`http://inner.example:${port}/`))).toBe("address");
    expect(await reasonOf(() => closed.fetch(`http://acme.localhost:${port}/`))).toBe("address");
    expect(seen).toEqual([]);
  });

  test("connects to the address that was checked, when the name changes its answer afterwards", async () => {
    const { port, seen } = await serve((_incoming, outgoing) => void outgoing.end("inner"));
    const answers = [["93.184.215.14"], ["127.0.0.1"]];
    const rebinding = open({ allowLoopback: false, resolve: () => Promise.resolve(answers.shift() ?? ["127.0.0.1"]) });
    const url = `http://rebind.example:${port}/`;
    expect((await rebinding.checkUrl(url)).ok).toBe(true);
    expect(await reasonOf(() => rebinding.fetch(url))).toBe("address");
    expect(seen).toEqual([]);
  });

  test("stops other clients of the agent at IP literals too", async () => {
    const { port, seen } = await serve((_incoming, outgoing) => void outgoing.end());
    const { agent } = open({ allowLoopback: false });
    expect(await reasonOf(() => request(`http://127.0.0.1:${port}/`, { dispatcher: agent }))).toBe("address");
    expect(seen).toEqual([]);
  });

  test("names the host, not the cause's insides, when nothing listens", async () => {
    const { port } = await serve(() => undefined);
    for (const close of closers.splice(0)) await close();
    const error = await failure(() => open().fetch(`http://127.0.0.1:${port}/`));
    expect(error.code).toBe("outbound_failed");
    expect(error.message).toContain("ECONNREFUSED");
  });
});

describe("redirects", () => {
  test("are followed within one origin with credentials and body as the standard has it", async () => {
    for (const [status, method, body] of [
      [302, "GET", ""],
      [303, "GET", ""],
      [307, "POST", "payload"],
      [308, "POST", "payload"],
    ] as const) {
      const { port, seen } = await serve((incoming, outgoing) => {
        if (incoming.url === "/from") outgoing.writeHead(status, { location: "/to" }).end();
        else incoming.pipe(outgoing);
      });
      const answer = await open().fetch(`http://127.0.0.1:${port}/from`, {
        method: "POST",
        body: "payload",
        headers: { authorization: "Bearer x" },
      });
      expect(await answer.text()).toBe(body);
      expect([seen[1]?.method, seen[1]?.headers.authorization]).toEqual([method, "Bearer x"]);
      expect(answer.url).toBe(`http://127.0.0.1:${port}/to`);
    }
  });

  test("lose every header that could be a credential when they go to another origin", async () => {
    const target = await serve((_incoming, outgoing) => void outgoing.end("arrived"));
    const { port } = await serve(redirectTo(() => `http://127.0.0.1:${target.port}/`));
    const headers = { authorization: "Bearer x", cookie: "a=b", "x-api-key": "k", "x-own": "o", accept: "text/plain" };
    expect(await (await open().fetch(`http://127.0.0.1:${port}/`, { headers })).text()).toBe("arrived");
    const arrived = target.seen[0]?.headers;
    expect([arrived?.authorization, arrived?.cookie, arrived?.["x-api-key"], arrived?.["x-own"]]).toEqual([
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
    expect(arrived?.accept).toBe("text/plain");
  });

  test("are refused when they would carry a body to another origin", async () => {
    const target = await serve((_incoming, outgoing) => void outgoing.end());
    const { port } = await serve(redirectTo(() => `http://127.0.0.1:${target.port}/`, 307));
    expect(
      await reasonOf(() => open().fetch(`http://127.0.0.1:${port}/`, { method: "POST", body: "client_secret=x" })),
    ).toBe("redirect");
    expect(target.seen).toEqual([]);
  });

  test("are checked like the first address, at every hop", async () => {
    for (const [location, reason] of [
      ["http://169.254.169.254/latest/meta-data", "address"],
      ["http://[::ffff:10.0.0.1]/", "address"],
      ["http://2852039166/", "address"],
      ["http://inner.example/", "address"],
      ["file:///etc/passwd", "scheme"],
      ["http://user:pw@127.0.0.1/", "credentials_in_url"],
      ["http://example.com:6379/", "port"],
      ["http://", "redirect"],
    ] as const) {
      const { port } = await serve((incoming, outgoing) => {
        outgoing.writeHead(302, { location: incoming.url === "/" ? "/second" : location }).end();
      });
      const outbound = open({ resolve: () => Promise.resolve(["10.0.0.1"]) });
      expect([location, await reasonOf(() => outbound.fetch(`http://127.0.0.1:${port}/`))]).toEqual([location, reason]);
    }
  });

  test("end after five", async () => {
    let count = 0;
    const { port, seen } = await serve((_incoming, outgoing) => {
      count += 1;
      if (count <= 5) outgoing.writeHead(302, { location: `/${count}` }).end();
      else outgoing.end("there");
    });
    expect(await (await open().fetch(`http://127.0.0.1:${port}/`)).text()).toBe("there");
    count = -1;
    expect(await reasonOf(() => open().fetch(`http://127.0.0.1:${port}/`))).toBe("redirect");
    expect(seen).toHaveLength(12);
  });

  test("are not followed when the caller says so", async () => {
    const { port, seen } = await serve(redirectTo(() => "/next"));
    const url = `http://127.0.0.1:${port}/`;
    expect(await reasonOf(() => open().fetch(url, { redirect: "error" }))).toBe("redirect");
    const manual = await open().fetch(url, { redirect: "manual" });
    expect([manual.status, manual.headers.get("location")]).toEqual([302, "/next"]);
    expect(seen).toHaveLength(2);
  });
});

describe("limits", () => {
  test("an answer larger than allowed is refused by its announced length, and by its real length after decompression", async () => {
    const zeros = Buffer.alloc(1_000_000);
    const { port } = await serve((incoming, outgoing) => {
      if (incoming.url === "/announced") outgoing.writeHead(200, { "content-length": zeros.length }).end(zeros);
      else if (incoming.url === "/chunked") outgoing.writeHead(200).end(zeros);
      else outgoing.writeHead(200, { "content-encoding": "gzip" }).end(gzipSync(zeros));
    });
    const fetch = open().fetchWith({ maxBytes: 100_000 });
    for (const path of ["announced", "chunked", "gzip"]) {
      const error = await failure(async () => (await fetch(`http://127.0.0.1:${port}/${path}`)).arrayBuffer());
      expect([path, error.code]).toEqual([path, "outbound_too_large"]);
    }
  });

  test("time ends a request without headers, and one whose body never ends", async () => {
    const { port } = await serve((incoming, outgoing) => {
      if (incoming.url === "/body") outgoing.writeHead(200).write("a");
    });
    const fetch = open().fetchWith({ timeoutMs: 50 });
    expect((await failure(() => fetch(`http://127.0.0.1:${port}/headers`))).code).toBe("outbound_timed_out");
    const answer = await open().fetchWith({ timeoutMs: 1_000 })(`http://127.0.0.1:${port}/body`);
    expect((await failure(() => answer.text())).code).toBe("outbound_timed_out");
  });

  test("the caller's signal ends it with the caller's reason, before and during the body", async () => {
    const { port } = await serve((_incoming, outgoing) => void outgoing.writeHead(200).write("a"));
    const { fetch } = open();
    const reason = new Error("enough");
    await expect(fetch(`http://127.0.0.1:${port}/`, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const controller = new AbortController();
    const answer = await fetch(`http://127.0.0.1:${port}/`, { signal: controller.signal });
    const body = answer.text();
    controller.abort(reason);
    await expect(body).rejects.toBe(reason);
  });

  test("a reader that stops early closes the connection", async () => {
    let closed: () => void = () => undefined;
    const whenClosed = new Promise<void>((resolve) => {
      closed = resolve;
    });
    const { port } = await serve((_incoming, outgoing) => {
      outgoing.on("close", closed);
      outgoing.writeHead(200).write("a");
    });
    const answer = await open().fetch(`http://127.0.0.1:${port}/`);
    await answer.body?.cancel();
    await whenClosed;
  });
});
