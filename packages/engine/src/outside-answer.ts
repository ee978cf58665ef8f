import { externalOutcomeText, type ExternalOutcome, type RemoteTask } from "@shaman/a2a-wire";
import { publicMessageOf } from "@shaman/kernel";
import { capText, markAsData } from "./tool-text.ts";

/** What a call of an outside agent came to. `asks` is its task where it waits for an answer. */
export type OutsideEnd = {
  readonly text: string;
  readonly isError: boolean;
  readonly state: "done" | "failed" | "unknown";
  readonly asks?: RemoteTask;
};

type Call = {
  readonly name: string;
  /** How the model names this call when it answers. */
  readonly callName: string;
  readonly outcome: ExternalOutcome;
  readonly maxBytes: number;
};

/** What the model is told of it: a sentence of ours, and everything foreign behind it as data, within `maxBytes`. */
export const concludeOutside = (call: Call): OutsideEnd => {
  const { name, outcome, maxBytes } = call;
  if (outcome.kind === "error") return concludeError(call, outcome);
  const data = markAsData(`the outside agent ${name}`, externalOutcomeText(name, outcome, { maxBytes }));
  if (outcome.kind === "interrupted") return concludeAsking(call, { ...outcome, data });
  if (outcome.kind === "message" || outcome.state === "completed") return { text: data, isError: false, state: "done" };
  return {
    text: `The outside agent ${name} ended its task as ${outcome.state}. ${data}`,
    isError: true,
    state: "failed",
  };
};

const concludeAsking = (
  { name, callName }: Call,
  { state, remote, data }: { readonly state: string; readonly remote: RemoteTask; readonly data: string },
): OutsideEnd => {
  if (remote.taskId === undefined) {
    return { text: `The outside agent ${name} stopped as ${state}. ${data}`, isError: true, state: "failed" };
  }
  const what = state === "auth_required" ? "wants an authorization" : "asks for more";
  const how = `To answer, use call_agent again with agent ${JSON.stringify(name)}, answers ${JSON.stringify(callName)} and your answer as message; or go on without it.`;
  return {
    text: `The outside agent ${name} ${what} before it goes on. ${how} ${data}`,
    isError: false,
    state: "done",
    asks: remote,
  };
};

const concludeError = (
  { name, maxBytes }: Call,
  { error, delivered, remote }: Extract<ExternalOutcome, { kind: "error" }>,
): OutsideEnd => {
  // An error's words may hold some of the agent's.
  const said = error.kind === "unexpected" ? publicMessageOf(error) : error.message;
  const data = markAsData(`the call of ${name}`, capText(`${error.code}: ${said}`, maxBytes));
  if (delivered === "no") {
    const seconds = error.retryAfterMs === undefined ? undefined : Math.ceil(error.retryAfterMs / 1_000);
    const when = seconds === undefined ? "" : ` It may be called again in ${seconds} seconds.`;
    const text = `The outside agent ${name} could not be called: it did not take the message.${when} ${data}`;
    return { text, isError: true, state: "failed" };
  }
  if (remote.taskId === undefined) {
    const text = `The call of the outside agent ${name} was interrupted, and its outcome is unknown: it may or may not have got the message, which was not sent again. Find out before you call it again. ${data}`;
    return { text, isError: true, state: "unknown" };
  }
  const text = `The call of the outside agent ${name} broke off without a result; it may still be at work. ${data}`;
  return { text, isError: true, state: "failed" };
};
