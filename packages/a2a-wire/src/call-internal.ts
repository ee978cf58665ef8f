import type { TokenContext, TokenIssuer, TokenMinter } from "@shaman/access";
import { AppError, type Clock, type JsonObject } from "@shaman/kernel";
import type { AgentConnections } from "./agent-connections.ts";
import type { AgentEvent } from "./agent-events.ts";
import { MISDIRECTED, streamMessage } from "./stream-message.ts";

export type InternalCall = {
  readonly issuer: TokenIssuer;
  /** The agent's name, as the address has it. */
  readonly agent: string;
  readonly rpcId: string | number;
  readonly message: JsonObject;
  readonly context: TokenContext;
  readonly signal: AbortSignal;
};

/** Sends a task to an internal server with a token for this one request, and gives its events as `streamMessage` does. */
export type CallInternal = (call: InternalCall) => AsyncGenerator<readonly AgentEvent[], void, undefined>;

/** How long no server is named after one that was named turned out to be another: several may share the address. */
const NAME_NONE_MS = 60_000;

/**
 * A token that names the server it is for can be checked by that server alone, without a store of used tokens (in the
 * way of RFC 9449 §8). Each answer tells the name, its nonce; where another server answers, a token without one follows.
 */
export const createInternalCaller = (deps: {
  readonly minter: TokenMinter;
  readonly connections: AgentConnections;
  /** Origin of the internal servers. */
  readonly origin: string;
  readonly clock: Clock;
}): CallInternal => {
  let nonce: string | undefined;
  let nameNoneUntil = 0;
  const onNonce = (heard: string): void => {
    nonce = heard;
  };

  const send = async function* (
    call: InternalCall,
    named: string | undefined,
  ): AsyncGenerator<readonly AgentEvent[], void, undefined> {
    const { agent, rpcId, message, context, signal } = call;
    const { parentTaskId, depth, traceparent } = context;
    const path = `/a2a/v1/agents/${encodeURIComponent(agent)}`;
    const body = JSON.stringify({ jsonrpc: "2.0", id: rpcId, method: "SendStreamingMessage", params: { message } });
    const token = deps.minter.mint({
      issuer: call.issuer,
      request: { method: "POST", path, body },
      context,
      ...(named !== undefined && { nonce: named }),
    });
    const headers = {
      authorization: `Bearer ${token}`,
      "x-shaman-context": JSON.stringify({ ...(parentTaskId !== undefined && { parentTaskId }), depth }),
      ...(traceparent !== undefined && { traceparent }),
    };
    yield* streamMessage(deps.connections, { origin: deps.origin, path, body, headers, signal, onNonce });
  };

  return async function* (call) {
    const named = deps.clock.now() < nameNoneUntil ? undefined : nonce;
    try {
      yield* send(call, named);
    } catch (error) {
      if (named === undefined || !(error instanceof AppError) || error.code !== MISDIRECTED) throw error;
      nameNoneUntil = deps.clock.now() + NAME_NONE_MS;
      yield* send(call, undefined);
    }
  };
};
