const NOT_CONNECTED = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "UND_ERR_CONNECT_TIMEOUT",
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "CERT_HAS_EXPIRED",
  "ERR_TLS_CERT_ALTNAME_INVALID",
]);
/** Of those, what passes when a server that is being started again listens, or its network is back. */
const PASSING = new Set(["ECONNREFUSED", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH"]);
/** As Node says that a connection ended in its TLS handshake, which has the code of any other reset. */
const NO_HANDSHAKE = /before secure TLS connection was established/;
const MAX_CAUSES = 6;

/** Whether a request failed because no connection was made, or none that was trusted: then nobody has seen it. */
export const neverConnected = (error: unknown): boolean => hasCause(error, NOT_CONNECTED);

/** Whether that may pass in a moment. */
export const momentarilyUnconnected = (error: unknown): boolean => hasCause(error, PASSING);

const hasCause = (error: unknown, codes: ReadonlySet<string>): boolean =>
  causesOf(error).some((cause) => hasCode(cause, codes) || NO_HANDSHAKE.test(cause.message));

const causesOf = (error: unknown): readonly Error[] => {
  const causes: Error[] = [];
  let current = error;
  while (causes.length < MAX_CAUSES && current instanceof Error) {
    causes.push(current);
    current = current.cause;
  }
  return causes;
};

const hasCode = (error: Error, codes: ReadonlySet<string>): boolean =>
  "code" in error && typeof error.code === "string" && codes.has(error.code);
