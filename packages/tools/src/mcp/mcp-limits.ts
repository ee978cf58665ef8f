/** How far a server outside may go. */
export type McpLimits = {
  /** For a connection with its first exchange. */
  readonly connectTimeoutMs: number;
  /** How long a server may say nothing at all while it works; progress counts. */
  readonly silenceTimeoutMs: number;
  /** For one call, whatever it reports on its way. */
  readonly callTimeoutMs: number;
  /** Of one answer as it comes over the wire. */
  readonly maxAnswerBytes: number;
  /** Of text and structured content that a tool gives back. */
  readonly maxOutputBytes: number;
  /** Of images and binary resources, in base64. */
  readonly maxMediaBytes: number;
  /** How long a session that nobody uses stays open: one of a run, and one that runs share. */
  readonly runIdleMs: number;
  readonly sharedIdleMs: number;
  /** Sessions of all organizations in this process. */
  readonly maxSessions: number;
};

export const DEFAULT_MCP_LIMITS: McpLimits = {
  connectTimeoutMs: 10_000,
  silenceTimeoutMs: 60_000,
  callTimeoutMs: 600_000,
  maxAnswerBytes: 8 * 1024 * 1024,
  maxOutputBytes: 64 * 1024,
  maxMediaBytes: 2 * 1024 * 1024,
  runIdleMs: 5_000,
  sharedIdleMs: 60_000,
  maxSessions: 1_000,
};
