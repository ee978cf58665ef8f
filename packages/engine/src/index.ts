export { fullNameOf } from "./agent-calls.ts";
export type { AgentCalls, Callee, ChildCall, Found, OutsideCall } from "./agent-calls.ts";
export type { Budget } from "./budget.ts";
export type { EngineEvent, Failure, LimitName } from "./engine-event.ts";
export { messageText } from "./message-text.ts";
export { runAgent } from "./run-agent.ts";
export type { EngineDeps, RunAgentInput } from "./run-state.ts";
