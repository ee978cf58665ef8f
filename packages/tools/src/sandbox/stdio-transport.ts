import { setImmediate as nextTurn } from "node:timers/promises";

import { deserializeMessage, serializeMessage } from "@modelcontextprotocol/sdk/shared/stdio.js";
import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js";
import {
  ErrorCode,
  isJSONRPCErrorResponse,
  isJSONRPCRequest,
  isJSONRPCResultResponse,
  type JSONRPCMessage,
  type RequestId,
} from "@modelcontextprotocol/sdk/types.js";
import { toAppError, type Result } from "@shaman/kernel";

import { createLineSplitter } from "./line-splitter.ts";
import { sandboxError } from "./sandbox-error.ts";
import type { Sandbox, SandboxEnd } from "./sandbox.ts";

export type StdioTransportOptions = {
  /** Makes the sandbox when the transport starts, and gives it the lines of standard error to hand over. */
  readonly start: (onLog: (line: string) => void) => Promise<Result<Sandbox>>;
  /** All that may be read over the server's life. */
  readonly outputBytes: number;
  /** The longest message either way. */
  readonly messageBytes?: number;
  /** Told once when the server is no more, with the reason. */
  readonly onEnd?: (end: SandboxEnd) => void;
};

const DEFAULT_MESSAGE_BYTES = 4 * 1024 * 1024;
/** After this many messages everything else this process has to do comes first. */
const MESSAGES_A_TURN = 32;
/** A server may print lines that are no messages; one that does little else is broken. */
const MAX_STRAY_LINES = 100;

/** Requests without an answer that a reason for the end is kept for; the SDK tells the rest that the connection closed. */
const MAX_WAITING = 1_000;

/**
 * An MCP transport (specification, "stdio": one JSON-RPC message a line) over the streams of a sandboxed server. Reading
 * pauses while messages are worked on, so that a server cannot write faster than it is read. Its standard error comes as
 * log notifications, and requests that its end leaves open are answered with the reason.
 */
export class StdioTransport implements Transport {
  onclose?: () => void;
  onerror?: (error: Error) => void;
  onmessage?: NonNullable<Transport["onmessage"]>;

  readonly #options: StdioTransportOptions;
  #sandbox: Sandbox | undefined;
  #finished: Promise<void> | undefined;
  #started: Promise<void> | undefined;
  readonly #waiting = new Set<RequestId>();
  #closed = false;

  constructor(options: StdioTransportOptions) {
    this.#options = options;
  }

  async start(): Promise<void> {
    if (this.#started !== undefined) throw new Error("The transport was started before");
    this.#started = this.#start();
    await this.#started;
  }

  async #start(): Promise<void> {
    const started = await this.#options.start((line) => this.#log(line));
    if (!started.ok) throw started.error;
    const sandbox = started.value;
    this.#sandbox = sandbox;
    const reading = this.#read(sandbox);
    this.#finished = sandbox.ended.then(async (end) => {
      // What an ended server wrote last is read first; a killed one's output is gone.
      await reading;
      this.#closed = true;
      this.#options.onEnd?.(end);
      for (const id of this.#waiting) {
        this.onmessage?.({ jsonrpc: "2.0", id, error: { code: ErrorCode.ConnectionClosed, message: end.message } });
      }
      this.onclose?.();
    });
    if (!this.#closed) return;
    await Promise.all([sandbox.close(), this.#finished]);
    throw sandboxError("sandbox_failed", "The connection was closed while its server was starting.");
  }

  async send(message: JSONRPCMessage): Promise<void> {
    const { stdin } = this.#open();
    const line = serializeMessage(message);
    const max = this.#options.messageBytes ?? DEFAULT_MESSAGE_BYTES;
    if (stdin.writableLength + Buffer.byteLength(line) > max) {
      throw sandboxError("sandbox_failed", "The message is too large, or the server does not read what it is sent.");
    }
    if (isJSONRPCRequest(message) && this.#waiting.size < MAX_WAITING) this.#waiting.add(message.id);
    await new Promise<void>((resolve, reject) => {
      stdin.write(line, (cause) =>
        cause ? reject(sandboxError("sandbox_failed", "The server does not read any more.", cause)) : resolve(),
      );
    });
  }

  /** Returns when no process of the server is left. */
  async close(): Promise<void> {
    this.#closed = true;
    // Whoever started it was told when that failed.
    await this.#started?.catch(() => undefined);
    await this.#sandbox?.close();
    await this.#finished;
  }

  #open(): Sandbox {
    if (this.#sandbox === undefined || this.#closed) throw sandboxError("sandbox_failed", "The server is not running.");
    return this.#sandbox;
  }

  async #read({ stdout, kill }: Sandbox): Promise<void> {
    const splitter = createLineSplitter(this.#options.messageBytes ?? DEFAULT_MESSAGE_BYTES);
    let bytes = 0;
    let lines = 0;
    const stray = { count: 0 };
    try {
      // The loop asks for the next piece only when this one is done with; meanwhile the server waits.
      for await (const piece of stdout) {
        const chunk = Buffer.isBuffer(piece) ? piece : Buffer.from(String(piece));
        bytes += chunk.length;
        if (bytes > this.#options.outputBytes) {
          throw new Error(`The server wrote more than ${this.#options.outputBytes} bytes.`);
        }
        for (const line of splitter.push(chunk)) {
          this.#receive(line, stray);
          lines += 1;
          if (lines % MESSAGES_A_TURN === 0) await nextTurn();
        }
        await nextTurn();
      }
    } catch (error) {
      if (!this.#closed) this.onerror?.(toAppError(error));
      kill("output");
    }
  }

  #receive(line: string, stray: { count: number }): void {
    if (line.trim() === "" || this.#closed) return;
    let message: JSONRPCMessage;
    try {
      message = deserializeMessage(line);
    } catch (cause) {
      stray.count += 1;
      const error = new Error(`The server wrote a line that is no message: ${line.slice(0, 100)}`, { cause });
      if (stray.count > MAX_STRAY_LINES) throw error;
      this.onerror?.(error);
      return;
    }
    if ((isJSONRPCResultResponse(message) || isJSONRPCErrorResponse(message)) && message.id !== undefined) {
      this.#waiting.delete(message.id);
    }
    this.onmessage?.(message);
  }

  #log(line: string): void {
    if (this.#closed) return;
    const params = { level: "info", logger: "stderr", data: line };
    this.onmessage?.({ jsonrpc: "2.0", method: "notifications/message", params });
  }
}
