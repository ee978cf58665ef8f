import { setTimeout as delay } from "node:timers/promises";
import type { JsonObject } from "@shaman/kernel";
import { startModelServer, type ModelReply, type ModelServerRequest } from "./model-server.ts";
import { startRedis } from "./redis-server.ts";
import { startShaman, type Shaman, type ShamanOptions, type TestOrg } from "./shaman.ts";

/** What the model is to answer: of which order, in which turn (from 1), as the how manieth call for that order (from 1). */
export type OrderCall = { readonly order: string; readonly turn: number; readonly call: number };

export type OrderScene = {
  readonly shaman: Shaman;
  readonly org: TestOrg;
  /** How often the model was called for each order. */
  readonly modelCalls: ReadonlyMap<string, number>;
  /** Sends an order and waits, as a patient caller does: the same message again until there is a final answer. */
  readonly send: (order: string, agent?: string) => Promise<SentTask>;
  /** Sends an order once, without waiting for its end. */
  readonly submit: (order: string, agent?: string) => ReturnType<Shaman["rpc"]>;
  /** Sends what a task waits for (an answer, or the parts of a decision), once, and waits as `send` does. */
  readonly answer: (task: SentTask, answer: string | readonly JsonObject[], agent?: string) => Promise<SentTask>;
  readonly close: () => Promise<void>;
};

export type SentTask = {
  readonly id: string;
  readonly contextId: string;
  readonly status: {
    readonly state: string;
    readonly message?: { readonly parts: readonly { readonly text?: string; readonly data?: JsonObject }[] };
  };
  readonly artifacts: readonly {
    readonly artifactId: string;
    readonly parts: readonly { readonly text?: string; readonly url?: string }[];
  }[];
};

/** What carries queue and nudges. Runs must be kept whichever it is. */
export const BACKENDS = ["postgres", "redis"] as const;
export type Backend = (typeof BACKENDS)[number];

/** Steps of an order that goes through: model, tool, model, two tools, model. */
export const ORDER_STEPS = 6;
export const ORDER_MODEL_STEPS = 3;

const RETRY_MS = 50;
const SHORTEST_MS = 10;
const SPREAD_MS = 50;

const agentFile = (name: string, frontMatter: string): string =>
  `---\nname: ${name}\ndescription: Works on orders\nexposed: true\nmodel: shop/test\ntools: [write_artifact, request_input, run_data_write, run_data_read]\n${frontMatter}\n---\nYou work on orders.\n`;

/** An order's three turns. Each answer differs from every other, so that a second one can never pass for the first. */
export const orderReply = ({ order, turn, call }: OrderCall): ModelReply => {
  const mark = `${order} turn ${turn} call ${call}`;
  const write = (id: string) => ({
    id: `${id}-${call}`,
    name: "write_artifact",
    input: { name: `${id}.txt`, content: `${id}: ${mark}` },
  });
  const thinking = {
    before: delay(Math.random() * SPREAD_MS),
    between: delay(SHORTEST_MS + Math.random() * SPREAD_MS),
  };
  const usage = { inputTokens: 100, outputTokens: 10 };
  switch (turn) {
    case 1:
      return { ...thinking, usage, text: ["Looking ", "into ", mark], toolCalls: [write("receipt")] };
    case 2:
      return { ...thinking, usage, toolCalls: [write("label"), write("invoice")] };
    default:
      return { ...thinking, usage, text: ["All ", "done: ", mark] };
  }
};

const orderOf = (request: ModelServerRequest): string =>
  /order-[\w-]+/.exec(JSON.stringify(request.body))?.[0] ?? "unknown";

const turnOf = ({ body }: ModelServerRequest): number => {
  const messages: unknown = typeof body === "object" && body !== null && "messages" in body ? body.messages : [];
  if (!Array.isArray(messages)) return 1;
  return 1 + messages.filter((message: { role?: string }) => message.role === "assistant").length;
};

/**
 * All servers, an organization with agents (`Clerk`, and others by name with what their front matter has besides), and a
 * model provider that counts what it is asked: for tests that break something while orders are under way.
 */
export const startOrderScene = async (
  options: ShamanOptions & {
    /** Redis means one of its own. */
    readonly backend?: Backend;
    readonly agents?: Readonly<Record<string, string>>;
    readonly reply?: (call: OrderCall) => ModelReply;
  } = {},
): Promise<OrderScene> => {
  const modelCalls = new Map<string, number>();
  const answer = options.reply ?? orderReply;
  const models = await startModelServer({
    wire: "openai",
    replies: (request) => {
      const order = orderOf(request);
      const call = (modelCalls.get(order) ?? 0) + 1;
      modelCalls.set(order, call);
      return answer({ order, turn: turnOf(request), call });
    },
  });
  const redis = options.backend === "redis" ? await startRedis() : undefined;
  const shaman = await startShaman({ ...options, ...(redis !== undefined && { redisUrl: redis.url }) });
  const agents = Object.entries({ Clerk: "", ...options.agents });
  const org = await shaman.givenOrg(
    Object.fromEntries(agents.map(([name, text]) => [`${name}.md`, agentFile(name, text)])),
  );
  await org.setModel({ provider: "shop", kind: "openai-compatible", baseUrl: models.baseUrl });

  const rpc = (agent: string, message: object, configuration: object = {}) =>
    shaman.rpc(org, {
      agent,
      method: "SendMessage",
      params: { message: { role: "ROLE_USER", ...message }, configuration },
    });
  const orderMessage = (order: string) => ({ messageId: order, parts: [{ text: order }] });
  const patiently = async (agent: string, message: object): Promise<SentTask> => {
    for (;;) {
      const task = await rpc(agent, message).then(taskOf, () => undefined);
      if (task !== undefined && !["TASK_STATE_SUBMITTED", "TASK_STATE_WORKING"].includes(task.status.state)) {
        return task;
      }
      await delay(RETRY_MS);
    }
  };
  return {
    shaman,
    org,
    modelCalls,
    submit: (order, agent = "Clerk") => rpc(agent, orderMessage(order), { returnImmediately: true }),
    send: (order, agent = "Clerk") => patiently(agent, orderMessage(order)),
    answer: ({ id, contextId }, given, agent = "Clerk") => {
      const parts = typeof given === "string" ? [{ text: given }] : given;
      return patiently(agent, { messageId: `answer-${id}`, taskId: id, contextId, parts });
    },
    close: async () => {
      await shaman.close();
      await models.close();
      await redis?.close();
    },
  };
};

const taskOf = (answer: { readonly status: number; readonly json: { result?: { task?: SentTask } } | undefined }) =>
  answer.status === 200 ? answer.json?.result?.task : undefined;
