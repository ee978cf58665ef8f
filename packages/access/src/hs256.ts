import { createHmac, createSecretKey, timingSafeEqual } from "node:crypto";
import type { Secret } from "@shaman/kernel";
import { decodeJwt, decodeProtectedHeader, type JWTPayload } from "jose";

/** A key for HS256 (RFC 7518 §3.2). */
export type Hs256Key = {
  /** Gives a token, a JWS in compact form (RFC 7515 §7.1), with this payload. */
  readonly sign: (payload: string) => string;
  /** Whether this key has signed the token, of which nothing has been looked at so far but its header. */
  readonly hasSigned: (token: string) => boolean;
};

/**
 * Signs and checks at once. jose's own functions do it by WebCrypto on another thread, and for so little the way there and
 * back takes longer than all else about a token (docs/decisions/039-tokens-without-another-thread.md).
 */
export const hs256Key = ({ kid, key }: { readonly kid: string; readonly key: Secret }): Hs256Key => {
  const secret = createSecretKey(key.reveal(), "base64url");
  const header = encode(JSON.stringify({ alg: "HS256", typ: "JWT", kid }));
  const macOf = (signed: string): string => createHmac("sha256", secret).update(signed).digest("base64url");
  return {
    sign: (payload) => {
      const signed = `${header}.${encode(payload)}`;
      return `${signed}.${macOf(signed)}`;
    },
    hasSigned: (token) => {
      const end = token.lastIndexOf(".");
      const [mac, expected] = [Buffer.from(token.slice(end + 1)), Buffer.from(macOf(token.slice(0, end)))];
      return mac.length === expected.length && timingSafeEqual(mac, expected);
    },
  };
};

const encode = (text: string): string => Buffer.from(text).toString("base64url");

/** The kid of a token that says it is signed by HS256 and asks for nothing else (RFC 7515 §4.1.11). */
export const kidOf = (token: string): string | undefined => {
  const header = attempt(() => decodeProtectedHeader(token));
  return header?.alg === "HS256" && header.crit === undefined ? header.kid : undefined;
};

/** What a token claims; nothing where it is malformed. */
export const payloadOf = (token: string): JWTPayload | undefined => attempt(() => decodeJwt(token));

const attempt = <Value>(decode: () => Value): Value | undefined => {
  try {
    return decode();
  } catch {
    return undefined;
  }
};
