import { describe, expect, test } from "vitest";

import { addressKind } from "./address.ts";
import { createGuard, type GuardOptions } from "./guard.ts";

const PRODUCTION: GuardOptions = { allowLoopback: false, mapLocalhost: false, allowHttp: false };
const DEVELOPMENT: GuardOptions = { allowLoopback: true, mapLocalhost: true, allowHttp: true };

/** What the guard answers: "ok", or the reason of the refusal. */
const verdict = (options: GuardOptions, url: string): unknown => {
  const checked = createGuard(options).checkSyntax(url);
  return checked.ok ? "ok" : checked.error.details?.["reason"];
};

const resolvesTo = (...addresses: readonly string[]): GuardOptions => ({
  ...PRODUCTION,
  resolve: () => Promise.resolve(addresses),
});

const resolved = async (options: GuardOptions, url: string): Promise<unknown> => {
  const checked = await createGuard(options).checkUrl(url);
  return checked.ok ? checked.value.addresses : (checked.error.details?.["reason"] ?? checked.error.code);
};

describe("the guard, in production", () => {
  test("lets only https through", () => {
    expect(verdict(PRODUCTION, "https://api.example.com/v1")).toBe("ok");
    for (const url of [
      "http://api.example.com",
      "ftp://example.com",
      "file:///etc/passwd",
      "data:text/plain,x",
      "gopher://x",
      "ws://x",
      "unix:/run/x",
    ]) {
      expect([url, verdict(PRODUCTION, url)]).toEqual([url, "scheme"]);
    }
  });

  test("refuses what is no URL, or means another one to another reader", () => {
    for (const url of [
      "",
      "example.com",
      "https://",
      "https://exa\nmple.com",
      " https://example.com",
      "https://example.com/a\tb",
      "https://999.1.1.1",
    ]) {
      expect([url, verdict(PRODUCTION, url)]).toEqual([url, "invalid_url"]);
    }
  });

  test("refuses credentials inside the address", () => {
    expect(verdict(PRODUCTION, "https://user:secret@example.com")).toBe("credentials_in_url");
    expect(verdict(PRODUCTION, "https://user@example.com")).toBe("credentials_in_url");
  });

  test("refuses ports where stores and control planes listen", () => {
    for (const port of [443, 8443, 3000, 49_152]) expect(verdict(PRODUCTION, `https://example.com:${port}`)).toBe("ok");
    for (const port of [1, 22, 25, 445, 2375, 3306, 5432, 6379, 9200, 11211]) {
      expect([port, verdict(PRODUCTION, `https://example.com:${port}`)]).toEqual([port, "port"]);
    }
  });

  test("refuses IP literals that are not public, in every notation", () => {
    const hosts = [
      "127.0.0.1",
      "127.1",
      "0x7f.1",
      "0177.0.0.1",
      "2130706433",
      "0x7f000001",
      "127.0.0.1.",
      "1２7.0.0.1",
      "0.0.0.0",
      "0",
      "10.1.2.3",
      "172.16.0.1",
      "192.168.1.1",
      "100.64.0.1",
      "100.100.100.200",
      "169.254.169.254",
      "192.0.0.192",
      "198.18.0.1",
      "203.0.113.7",
      "224.0.0.1",
      "240.0.0.1",
      "255.255.255.255",
      "168.63.129.16",
      "[::]",
      "[::1]",
      "[::ffff:127.0.0.1]",
      "[::ffff:a9fe:a9fe]",
      "[::127.0.0.1]",
      "[::ffff:0:10.0.0.1]",
      "[64:ff9b::169.254.169.254]",
      "[64:ff9b:1::1]",
      "[2002:7f00:1::]",
      "[2001::1]",
      "[2001:db8::1]",
      "[fe80::1]",
      "[fec0::1]",
      "[fd00:ec2::254]",
      "[ff02::1]",
      "[100::1]",
      "[3fff::1]",
      "[5f00::1]",
      "[4000::1]",
    ];
    for (const host of hosts) expect([host, verdict(PRODUCTION, `https://${host}/`)]).toEqual([host, "address"]);
    for (const host of ["8.8.8.8", "[2606:4700:4700::1111]"]) {
      expect(verdict(PRODUCTION, `https://${host}/`)).toBe("ok");
    }
  });

  test("refuses a name when any one of its addresses is not public", async () => {
    expect(await resolved(resolvesTo("93.184.215.14", "2606:4700::1"), "https://a.example")).toEqual([
      "93.184.215.14",
      "2606:4700::1",
    ]);
    expect(await resolved(resolvesTo("93.184.215.14", "10.0.0.1"), "https://a.example")).toBe("address");
    expect(await resolved(resolvesTo("::ffff:127.0.0.1"), "https://a.example")).toBe("address");
    expect(await resolved(resolvesTo("fe80::1%eth0"), "https://a.example")).toBe("address");
    expect(await resolved(resolvesTo(), "https://a.example")).toBe("outbound_failed");
    expect(
      await resolved({ ...PRODUCTION, resolve: () => Promise.reject(new Error("ENOTFOUND")) }, "https://a.example"),
    ).toBe("outbound_failed");
  });

  test("does not tell what a name resolved to", async () => {
    const checked = await createGuard(resolvesTo("10.20.30.40")).checkUrl("https://inner.example");
    expect(checked.ok ? "" : checked.error.message).toContain("inner.example");
    expect(checked.ok ? "" : checked.error.message).not.toContain("10.20");
  });

  test("refuses localhost, whatever it is called", async () => {
    const options = { ...PRODUCTION, resolve: () => Promise.resolve(["127.0.0.1"]) };
    for (const host of ["localhost", "acme.localhost", "LOCALHOST."]) {
      expect(await resolved(options, `https://${host}/`)).toBe("address");
    }
  });
});

describe("the guard, in development", () => {
  test("lets http and loopback through, and nothing else that is private", () => {
    for (const host of ["127.0.0.1:5010", "[::1]:80", "localhost:1", "acme.localhost:5000", "example.com"]) {
      expect([host, verdict(DEVELOPMENT, `http://${host}/`)]).toEqual([host, "ok"]);
    }
    for (const host of ["10.0.0.1", "169.254.169.254", "0.0.0.0", "[fd00::1]"]) {
      expect([host, verdict(DEVELOPMENT, `http://${host}/`)]).toEqual([host, "address"]);
    }
  });

  test("maps every name below localhost to this machine without a resolver", async () => {
    const options = { ...DEVELOPMENT, resolve: () => Promise.reject(new Error("asked")) };
    expect(await resolved(options, "http://acme.localhost:5000/")).toEqual(["127.0.0.1"]);
    expect(await resolved(options, "http://a.b.LOCALHOST./")).toEqual(["127.0.0.1"]);
    expect(await resolved(options, "http://notlocalhost/")).toBe("outbound_failed");
  });

  test("an operator who allows loopback alone gets http to loopback alone", () => {
    const options = { ...PRODUCTION, allowLoopback: true };
    expect(verdict(options, "http://localhost:11434/v1")).toBe("ok");
    expect(verdict(options, "http://127.0.0.1:11434/v1")).toBe("ok");
    expect(verdict(options, "http://example.com/")).toBe("scheme");
  });
});

test("what is no address is never allowed", () => {
  for (const text of ["", "localhost", "1.2.3.4.5", "::g"]) expect(addressKind(text)).toBe("forbidden");
});
