import { createHmac, randomBytes } from "node:crypto";
import { unwrap, type Clock } from "@shaman/kernel";
import { testTokenContext } from "@shaman/testkit";
import { jwtVerify, SignJWT, UnsecuredJWT } from "jose";
import { describe, expect, test } from "vitest";
import { parseInternalJwtKeys, type InternalJwtKeys } from "./internal-jwt-keys.ts";
import type { UseJti } from "./jti-store.ts";
import { bodyHash, createTokenMinter } from "./token-minter.ts";
import { createTokenVerifier } from "./token-verifier.ts";

const NOW_MS = 1_790_000_000_000;
const NONCE = "n".repeat(29);
const secretOf = new Map<string, Buffer>();

const secret = (kid: string): Buffer => {
  const known = secretOf.get(kid) ?? randomBytes(32);
  secretOf.set(kid, known);
  return known;
};

const keysOf = (...kids: string[]): InternalJwtKeys => {
  const entries = kids.map((kid) => `${kid}:${secret(kid).toString("base64url")}`);
  const keys = parseInternalJwtKeys(entries.join(","));
  if (!keys.ok) throw new Error(keys.error);
  return keys.value;
};

const clockAt = (ms: number): Clock => ({ now: () => ms });

const onceStore = (): UseJti => {
  const used = new Set<string>();
  return async ({ jti }) => (used.has(jti) ? "used" : (used.add(jti), "fresh"));
};

const context = testTokenContext({ leaseEpoch: 3, attemptsLeft: 2, deadline: NOW_MS + 600_000 });

const request = { method: "POST", path: "/a2a/v1/agents/ProcessOrder", body: '{"a":1}' };

const mint = (kid = "a", atMs = NOW_MS) => {
  const minter = createTokenMinter({ keys: keysOf(kid), clock: clockAt(atMs) });
  return minter.mint({ issuer: "shaman-public-server", request, context });
};

const verifierAt = (ms: number, useJti = onceStore(), kids = ["a"]) =>
  createTokenVerifier({ keys: keysOf(...kids), clock: clockAt(ms), useJti, nonce: NONCE });

const claims = (): Record<string, unknown> => ({
  iss: "shaman-public-server",
  aud: "shaman-internal-server",
  iat: NOW_MS / 1000,
  exp: NOW_MS / 1000 + 300,
  jti: randomBytes(18).toString("base64url"),
  htm: request.method,
  htu: request.path,
  bh: bodyHash(request.body),
  context,
});

const signed = (payload: Record<string, unknown>, header: { alg?: string; kid?: string } = {}): Promise<string> =>
  new SignJWT(payload).setProtectedHeader({ alg: "HS256", kid: "a", ...header }).sign(secret("a"));

const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");

const codeOf = async (token: string | Promise<string>, req = request, atMs = NOW_MS): Promise<string> => {
  const result = await verifierAt(atMs).verify(await token, req);
  return result.ok ? "ok" : result.error.code;
};

describe("an internal token", () => {
  test("is accepted once for the request it was minted for, and carries its context", async () => {
    const verifier = verifierAt(NOW_MS);
    const token = mint();
    expect(unwrap(await verifier.verify(token, request)).context).toEqual(context);
    const again = await verifier.verify(token, request);
    expect(again.ok ? "ok" : again.error.code).toBe("internal_token_invalid");
  });

  test.each([
    ["another method", { ...request, method: "GET" }],
    ["another path", { ...request, path: "/a2a/v1/agents/Other" }],
    ["the path with a query", { ...request, path: `${request.path}?x=1` }],
    ["another body", { ...request, body: '{"a":2}' }],
    ["an empty body", { ...request, body: "" }],
  ])("is refused for %s", async (_, other) => {
    expect(await codeOf(mint(), other)).toBe("internal_token_invalid");
  });

  test("binds the same body given as bytes or as text", async () => {
    expect(await codeOf(mint(), { ...request, body: Buffer.from(request.body).toString() })).toBe("ok");
    const verifier = verifierAt(NOW_MS);
    expect((await verifier.verify(mint(), { ...request, body: Buffer.from(request.body) })).ok).toBe(true);
  });

  test("is accepted until 5 seconds after its expiry, not longer", async () => {
    expect(await codeOf(mint(), request, NOW_MS + 304_000)).toBe("ok");
    expect(await codeOf(mint(), request, NOW_MS + 306_000)).toBe("internal_token_invalid");
  });

  test("is accepted from a clock 5 seconds ahead, not further", async () => {
    expect(await codeOf(mint("a", NOW_MS + 5_000))).toBe("ok");
    expect(await codeOf(mint("a", NOW_MS + 7_000))).toBe("internal_token_invalid");
  });

  test("is refused when it would live longer than 300 seconds", async () => {
    expect(await codeOf(signed({ ...claims(), exp: NOW_MS / 1000 + 301 }))).toBe("internal_token_invalid");
  });

  test.each(["iss", "aud", "iat", "exp", "jti", "htm", "htu", "bh", "context"])(
    "is refused without %s",
    async (claim) => {
      expect(await codeOf(signed(claims()))).toBe("ok");
      const { [claim]: _, ...rest } = claims();
      expect(await codeOf(signed(rest))).toBe("internal_token_invalid");
    },
  );

  test.each([
    ["a strange issuer", { iss: "somebody" }],
    ["another audience", { aud: "shaman-public-server" }],
    ["a context of another shape", { context: { ...context, leaseEpoch: "3" } }],
    ["a body hash that is none", { bh: "x" }],
  ])("is refused with %s", async (_, change) => {
    expect(await codeOf(signed({ ...claims(), ...change }))).toBe("internal_token_invalid");
  });

  test.each([
    "leaseEpoch",
    "agent",
    "commit",
    "deadline",
    "budget",
    "ancestors",
    "initiator",
    "runId",
    "taskId",
    "tenantId",
  ])("is refused without %s in its context", async (field) => {
    const partial = Object.fromEntries(Object.entries(context).filter(([name]) => name !== field));
    expect(await codeOf(signed({ ...claims(), context: partial }))).toBe("internal_token_invalid");
  });

  test("is refused unsigned, with another algorithm, with another key, an unknown kid or none", async () => {
    const unsigned = new UnsecuredJWT(claims()).encode();
    expect(await codeOf(unsigned)).toBe("internal_token_invalid");
    expect(await codeOf(signed(claims(), { alg: "HS512" }))).toBe("internal_token_invalid");
    const forged = new SignJWT(claims()).setProtectedHeader({ alg: "HS256", kid: "a" }).sign(randomBytes(32));
    expect(await codeOf(forged)).toBe("internal_token_invalid");
    expect(await codeOf(signed(claims(), { kid: "z" }))).toBe("internal_token_invalid");
    const nameless = new SignJWT(claims()).setProtectedHeader({ alg: "HS256" }).sign(secret("a"));
    expect(await codeOf(nameless)).toBe("internal_token_invalid");
    for (const text of ["", "x", "a.b.c", "x".repeat(40_000)]) {
      expect(await codeOf(text)).toBe("internal_token_invalid");
    }
  });

  test("is one for whoever reads the standard", async () => {
    const { payload, protectedHeader } = await jwtVerify(mint(), secret("a"), {
      algorithms: ["HS256"],
      issuer: "shaman-public-server",
      audience: "shaman-internal-server",
      currentDate: new Date(NOW_MS),
    });
    expect(protectedHeader).toEqual({ alg: "HS256", typ: "JWT", kid: "a" });
    expect(payload).toMatchObject({ context, bh: bodyHash(request.body) });
  });

  test("is refused when it was changed or cut, or has a header that wants more than is understood", async () => {
    const [header = "", payload = "", mac = ""] = mint().split(".");
    expect(await codeOf(`${header}.${payload}.${mac}`)).toBe("ok");
    const raised = encode({ ...claims(), context: { ...context, depth: 1 } });
    const renamed = encode({ alg: "HS256", kid: "a" });
    const last = mac.endsWith("A") ? "B" : "A";
    const changed = [
      `${header}.${raised}.${mac}`,
      `${renamed}.${payload}.${mac}`,
      `${header}.${payload}.${mac.slice(0, -1)}${last}`,
      `${header}.${payload}.${mac.slice(0, -1)}`,
      `${header}.${payload}.${mac}A`,
      `${header}.${payload}.`,
      `${header}.${payload}`,
      `.${payload}.${mac}`,
      `${header}..${mac}`,
      `${header}.${payload}.${mac}.${mac}`,
    ];
    for (const token of changed) expect([token, await codeOf(token)]).toEqual([token, "internal_token_invalid"]);
    const critical = new SignJWT(claims())
      .setProtectedHeader({ alg: "HS256", kid: "a", crit: ["exp"], exp: 1 })
      .sign(secret("a"), { crit: { exp: true } });
    expect(await codeOf(critical)).toBe("internal_token_invalid");
    const noObject = `${header}.${encode("text")}`;
    expect(await codeOf(`${noObject}.${createHmac("sha256", secret("a")).update(noObject).digest("base64url")}`)).toBe(
      "internal_token_invalid",
    );
  });

  test("of either key is accepted during a rotation, of a retired key no more", async () => {
    const token = mint("old");
    expect((await verifierAt(NOW_MS, onceStore(), ["new", "old"]).verify(token, request)).ok).toBe(true);
    expect((await verifierAt(NOW_MS, onceStore(), ["new"]).verify(token, request)).ok).toBe(false);
  });

  test("uses up its id only when everything else is right", async () => {
    const seen: string[] = [];
    const verifier = verifierAt(NOW_MS, async ({ jti }) => (seen.push(jti), "fresh"));
    const token = mint();
    await verifier.verify(token, { ...request, body: "other" });
    expect(seen).toEqual([]);
    await verifier.verify(token, request);
    expect(seen).toHaveLength(1);
  });

  test("cannot be accepted while the store of used ids is away: that is an operational error, not a refusal", async () => {
    const verifier = verifierAt(NOW_MS, () => Promise.reject(new Error("connection refused")));
    await expect(verifier.verify(mint(), request)).rejects.toMatchObject({
      code: "token_store_unavailable",
      kind: "operational",
      retryAfterMs: 1_000,
    });
  });

  test("is remembered as used until nobody would accept it any more", async () => {
    const uses: number[] = [];
    const verifier = verifierAt(NOW_MS, async ({ expiresAtMs }) => (uses.push(expiresAtMs), "fresh"));
    await verifier.verify(mint(), request);
    expect(uses).toEqual([NOW_MS + 305_000]);
  });

  describe("that names a server", () => {
    const mintFor = (nonce: string, atMs = NOW_MS): string => {
      const minter = createTokenMinter({ keys: keysOf("a"), clock: clockAt(atMs) });
      return minter.mint({ issuer: "shaman-public-server", request, context, nonce });
    };

    test("is accepted by it, once, without the store", async () => {
      const verifier = verifierAt(NOW_MS, () => Promise.reject(new Error("not to be asked")));
      const token = mintFor(NONCE);
      expect((await verifier.verify(token, request)).ok).toBe(true);
      const again = await verifier.verify(token, request);
      expect(again.ok ? "ok" : again.error.message).toContain("used before");
    });

    test("is refused by every other, which leaves it unused, and so is a forged name", async () => {
      const seen: string[] = [];
      const verifier = verifierAt(NOW_MS, async ({ jti }) => (seen.push(jti), "fresh"));
      const other = await verifier.verify(mintFor("m".repeat(29)), request);
      expect(other.ok ? "ok" : other.error.code).toBe("internal_token_misdirected");
      expect(seen).toEqual([]);
      expect(await codeOf(signed({ ...claims(), exp: NOW_MS / 1000 + 30, nonce: "short" }))).toBe(
        "internal_token_invalid",
      );
    });

    test("lives for 30 seconds at most, and is remembered as long as it could come again", async () => {
      expect(await codeOf(signed({ ...claims(), exp: NOW_MS / 1000 + 31, nonce: NONCE }))).toBe(
        "internal_token_invalid",
      );
      let now = NOW_MS;
      const verifier = createTokenVerifier({
        keys: keysOf("a"),
        clock: { now: () => now },
        useJti: onceStore(),
        nonce: NONCE,
      });
      // Issued by a clock that is ahead, and sent as late as it is accepted.
      const token = mintFor(NONCE, NOW_MS + 5_000);
      for (const ms of [0, 10_000, 39_000]) {
        now = NOW_MS + ms;
        const result = await verifier.verify(token, request);
        expect(result.ok ? "ok" : result.error.message).toContain(ms === 0 ? "ok" : "used before");
        await verifier.verify(mintFor(NONCE, now), request);
      }
      // Remembered over the moment at which what is older than any token is forgotten.
      now = NOW_MS + 20_000;
      const later = mintFor(NONCE, now);
      expect((await verifier.verify(later, request)).ok).toBe(true);
      now = NOW_MS + 45_000;
      await verifier.verify(mintFor(NONCE, now), request);
      const again = await verifier.verify(later, request);
      expect(again.ok ? "ok" : again.error.message).toContain("used before");
      now = NOW_MS + 46_000;
      const late = await verifier.verify(token, request);
      expect(late.ok ? "ok" : late.error.code).toBe("internal_token_misdirected");
    });
  });
});
