import { webcrypto } from "node:crypto";
import type { Secret } from "@shaman/kernel";

/** A base64url key for HS256; importing costs more than signing, so keep the result. */
export const importHmacKey = (key: Secret): Promise<webcrypto.CryptoKey> =>
  webcrypto.subtle.importKey("raw", Buffer.from(key.reveal(), "base64url"), { name: "HMAC", hash: "SHA-256" }, false, [
    "sign",
    "verify",
  ]);
