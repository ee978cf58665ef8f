import { randomUUID, webcrypto } from "node:crypto";
import { jwtVerify, SignJWT } from "jose";

type HmacKey = webcrypto.CryptoKey;

/** Imports the key once: signing with a CryptoKey costs about half of signing with raw bytes. */
export const importTokenKey = (base64url: string): Promise<HmacKey> =>
  webcrypto.subtle.importKey("raw", Buffer.from(base64url, "base64url"), { name: "HMAC", hash: "SHA-256" }, false, [
    "sign",
    "verify",
  ]);

export const mintToken = (key: HmacKey, taskId: string): Promise<string> =>
  new SignJWT({ context: { tenantId: "acme", taskId, depth: 0 } })
    .setProtectedHeader({ alg: "HS256", kid: "lean" })
    .setIssuer("lean-public")
    .setAudience("lean-internal")
    .setIssuedAt()
    .setExpirationTime("300s")
    .setJti(randomUUID())
    .sign(key);

/** Throws when the token is not ours, not for us or out of date. */
export const verifyToken = async (key: HmacKey, token: string): Promise<void> => {
  await jwtVerify(token, key, { algorithms: ["HS256"], issuer: "lean-public", audience: "lean-internal" });
};
