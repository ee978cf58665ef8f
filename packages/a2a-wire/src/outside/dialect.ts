import { randomUUID } from "node:crypto";
import type { JsonObject } from "@shaman/kernel";
import type { SupportedInterface } from "@shaman/external";
import { isObject } from "../proto-json.ts";
import { answerInvalid } from "./external-error.ts";
import { foreignError } from "./foreign-error.ts";
import type { OutgoingMessage } from "./wire-shapes.ts";
import { writeMessage, writeMessageOld, writeMessageOldProto } from "./write-message.ts";

/** One request as it goes out. */
export type WireRequest = {
  readonly method: "GET" | "POST";
  readonly url: string;
  readonly body?: JsonObject;
  readonly stream: boolean;
  /** What is inside an answer of status 200, be it a body or an event. Throws what the agent reports as an error. */
  readonly unwrap: (value: unknown) => unknown;
};

/** How the operations look on one interface. */
export type Dialect = {
  /** Sent with every request; extension URIs and content types included. */
  readonly headers: Readonly<Record<string, string>>;
  /** `immediately`: answer when the task exists instead of when it is done. */
  readonly send: (
    message: OutgoingMessage,
    how: { readonly stream: boolean; readonly immediately: boolean },
  ) => WireRequest;
  readonly getTask: (taskId: string, historyLength: number) => WireRequest;
  readonly cancelTask: (taskId: string) => WireRequest;
  /** In the order in which to try them: the texts disagree on the HTTP method. */
  readonly subscribe: (taskId: string) => readonly WireRequest[];
};

type RpcCall = { readonly method: string; readonly params: JsonObject; readonly stream?: boolean };

const rpcRequest = (url: string, { method, params, stream = false }: RpcCall): WireRequest => {
  const id = randomUUID();
  return {
    method: "POST",
    url,
    body: { jsonrpc: "2.0", id, method, params },
    stream,
    unwrap: (value) => {
      if (!isObject(value) || value.jsonrpc !== "2.0") throw answerInvalid("it is no JSON-RPC 2.0 response");
      const isError = isObject(value.error);
      // Only an error may have no id: that of a request which the agent could not read.
      if (value.id !== id && !(isError && (value.id === null || value.id === undefined))) {
        throw answerInvalid("it answers another request than ours");
      }
      if (isError) throw foreignError({ body: value.error, httpStatus: 200 });
      if (value.result === undefined) throw answerInvalid("it holds neither result nor error");
      return value.result;
    },
  };
};

const httpUnwrap = (value: unknown): unknown => {
  if (isObject(value) && isObject(value.error)) throw foreignError({ body: value, httpStatus: 200 });
  return value;
};

/** A path below the interface's own, keeping a query that the interface has. */
const below = (base: string, path: string, query: Readonly<Record<string, string>> = {}): string => {
  const url = new URL(base);
  url.pathname = `${url.pathname.replace(/\/+$/, "")}${path}`;
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
  return url.href;
};

const segment = (text: string): string => encodeURIComponent(text);

const jsonRpc = (agent: SupportedInterface): Omit<Dialect, "headers"> => {
  const tenant: JsonObject = agent.tenant === undefined ? {} : { tenant: agent.tenant };
  const call = (input: RpcCall): WireRequest =>
    rpcRequest(agent.url, { ...input, params: { ...tenant, ...input.params } });
  return {
    send: (message, { stream, immediately }) =>
      call({
        method: stream ? "SendStreamingMessage" : "SendMessage",
        params: {
          message: writeMessage(message),
          ...(!stream && { configuration: { returnImmediately: immediately } }),
        },
        stream,
      }),
    getTask: (id, historyLength) => call({ method: "GetTask", params: { id, historyLength } }),
    cancelTask: (id) => call({ method: "CancelTask", params: { id } }),
    subscribe: (id) => [call({ method: "SubscribeToTask", params: { id }, stream: true })],
  };
};

const jsonRpcOld = (agent: SupportedInterface): Omit<Dialect, "headers"> => {
  const call = (input: RpcCall): WireRequest => rpcRequest(agent.url, input);
  return {
    send: (message, { stream, immediately }) =>
      call({
        method: stream ? "message/stream" : "message/send",
        params: { message: writeMessageOld(message), ...(!stream && { configuration: { blocking: !immediately } }) },
        stream,
      }),
    getTask: (id, historyLength) => call({ method: "tasks/get", params: { id, historyLength } }),
    cancelTask: (id) => call({ method: "tasks/cancel", params: { id } }),
    subscribe: (id) => [call({ method: "tasks/resubscribe", params: { id }, stream: true })],
  };
};

const http = (agent: SupportedInterface): Omit<Dialect, "headers"> => {
  const { tenant } = agent;
  // The path has the tenant, and so has the body where there is one.
  const prefix = tenant === undefined ? "" : `/${segment(tenant)}`;
  const inBody: JsonObject = tenant === undefined ? {} : { tenant };
  const at = (path: string, query?: Readonly<Record<string, string>>): string =>
    below(agent.url, `${prefix}${path}`, query);
  const post = (path: string, body: JsonObject, stream = false): WireRequest => ({
    method: "POST",
    url: at(path),
    body: { ...inBody, ...body },
    stream,
    unwrap: httpUnwrap,
  });
  return {
    send: (message, { stream, immediately }) =>
      stream
        ? post("/message:stream", { message: writeMessage(message) }, true)
        : post("/message:send", {
            message: writeMessage(message),
            configuration: { returnImmediately: immediately },
          }),
    getTask: (id, historyLength) => ({
      method: "GET",
      url: at(`/tasks/${segment(id)}`, { historyLength: String(historyLength) }),
      stream: false,
      unwrap: httpUnwrap,
    }),
    cancelTask: (id) => post(`/tasks/${segment(id)}:cancel`, {}),
    subscribe: (id) => [
      post(`/tasks/${segment(id)}:subscribe`, {}, true),
      { method: "GET", url: at(`/tasks/${segment(id)}:subscribe`), stream: true, unwrap: httpUnwrap },
    ],
  };
};

const httpOld = (agent: SupportedInterface): Omit<Dialect, "headers"> => {
  const at = (path: string, query?: Readonly<Record<string, string>>): string => {
    // Some cards give the address with the version that every path begins with.
    const base = agent.url.replace(/\/v1\/?$/, "");
    return below(base, `/v1${path}`, query);
  };
  const post = (path: string, body: JsonObject, stream = false): WireRequest => ({
    method: "POST",
    url: at(path),
    body,
    stream,
    unwrap: httpUnwrap,
  });
  return {
    send: (message, { stream, immediately }) =>
      post(
        stream ? "/message:stream" : "/message:send",
        {
          message: writeMessageOldProto(message),
          ...(!stream && { configuration: { blocking: !immediately } }),
        },
        stream,
      ),
    getTask: (id, historyLength) => ({
      method: "GET",
      // 0 means all of it in this dialect.
      url: at(`/tasks/${segment(id)}`, { historyLength: String(Math.max(1, historyLength)) }),
      stream: false,
      unwrap: httpUnwrap,
    }),
    cancelTask: (id) => post(`/tasks/${segment(id)}:cancel`, {}),
    subscribe: (id) => [
      post(`/tasks/${segment(id)}:subscribe`, {}, true),
      { method: "GET", url: at(`/tasks/${segment(id)}:subscribe`), stream: true, unwrap: httpUnwrap },
    ],
  };
};

const operationsOf = (agent: SupportedInterface): Omit<Dialect, "headers"> => {
  switch (agent.binding) {
    case "JSONRPC":
      return agent.version === "1.0" ? jsonRpc(agent) : jsonRpcOld(agent);
    case "HTTP+JSON":
      return agent.version === "1.0" ? http(agent) : httpOld(agent);
  }
};

/** The words in which to speak to an interface: A2A 1.0 (§9, §11) or 0.3 (§3), by JSON-RPC or by HTTP+JSON. */
export const dialectOf = (agent: SupportedInterface, extensions: readonly string[]): Dialect => {
  const isHttp10 = agent.binding === "HTTP+JSON" && agent.version === "1.0";
  const extensionHeader = agent.version === "1.0" ? "a2a-extensions" : "x-a2a-extensions";
  return {
    ...operationsOf(agent),
    headers: {
      "content-type": isHttp10 ? "application/a2a+json" : "application/json",
      "a2a-version": agent.version,
      ...(extensions.length > 0 && { [extensionHeader]: extensions.join(", ") }),
    },
  };
};
