export type { AgentArtifact, AgentEvent, AgentStatus } from "./agent-events.ts";
export { openAgentConnections } from "./agent-connections.ts";
export type { AgentConnections } from "./agent-connections.ts";
export { allowedCallDepth, callDepthMetadata } from "./call-depth.ts";
export { encodeHttpError, encodeJsonRpcError, encodingOf, rpcHttpStatusOf } from "./errors.ts";
export type { FieldViolation, JsonRpcError } from "./errors.ts";
export type { ExternalProgress, RemoteTask } from "./outside/answer-state.ts";
export { callExternalAgent, cancelExternalTask, externalMessageId } from "./outside/call-external-agent.ts";
export type {
  ExternalCall,
  ExternalCallDeps,
  ExternalCallLimits,
  ExternalEvent,
  ExternalOutcome,
} from "./outside/call-external-agent.ts";
export type { Delivered, ExternalErrorCode } from "./outside/external-error.ts";
export { openOutside, remoteTask, startedOutside } from "./outside/outside-step.ts";
export type { OutsideAgent, StartedOutside } from "./outside/outside-step.ts";
export { externalOutcomeText } from "./outside/outcome-text.ts";
export { probeExternalAgent } from "./outside/probe-external-agent.ts";
export type { ExternalProbe } from "./outside/probe-external-agent.ts";
export type { ForeignArtifact, ForeignMessage } from "./outside/wire-shapes.ts";
export { isNestedDeeper, isObject } from "./proto-json.ts";
export { INPUT_MODES, invalidParams, MAX_DEPTH, parseSendParams, parseTaskParams } from "./send-params.ts";
export type { MessageLimits, SendParams } from "./send-params.ts";
export { readSse } from "./sse.ts";
export { createInternalCaller } from "./call-internal.ts";
export type { CallInternal, InternalCall } from "./call-internal.ts";
export { agentUnavailable, NONCE_HEADER, streamMessage } from "./stream-message.ts";
export { toSdkMessage, toSdkPart, toSdkTask, toStreamResponse } from "./task-json.ts";
export { TRACE_EXTENSION, traceMetadata, traceRecord } from "./trace.ts";
export type { BudgetLeft, TraceRecord } from "./trace.ts";
