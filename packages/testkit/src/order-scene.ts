import { setTimeout as delay } from "node:timers/promises";
import { startModelServer, type ModelReply, type ModelServerRequest } from "./model-server.ts";
import { startShaman, type Shaman, type ShamanOptions, type TestOrg } from "./shaman.ts";

/** What the model is to answer: of which order, in which turn (from 1), as the how manieth call for that order (from 1). */
export type OrderCall = { readonly order: string; readonly turn: number; readonly call: number };

export type OrderScene = {
  readonly shaman: Shaman;
  readonly org: TestOrg;
  /** How often the model was called for each order. */
  readonly modelCalls: ReadonlyMap<string, number>;
  /** Sends an order and waits, as a patient caller does: the same message again until there is a final answer. */
  readonly send: (order: string) => Promise<SentTask>;
  /** Sends an order once, without waiting for its end. */
  readonly submit: (order: string) => ReturnType<Shaman["rpc"]>;
  readonly close: () => Promise<void>;
};

export type SentTask = {
  readonly id: string;
  readonly status: {
    readonly state: string;
    readonly message?: { readonly parts: readonly { readonly text?: string }[] };
  };
  readonly artifacts: readonly { readonly artifactId: string; readonly parts: readonly { readonly text?: string }[] }[];
};

/** Steps of an order that goes through: model, tool, model, two tools, model. */
export const ORDER_STEPS = 6;
export const ORDER_MODEL_STEPS = 3;

const RETRY_MS = 50;
const SHORTEST_MS = 10;
const SPREAD_MS = 50;

const AGENT = (frontMatter: string): string =>
  `---\nname: Clerk\ndescription: Works on orders\nexposed: true\nmodel: shop/test\ntools: [write_artifact, request_input]\n${frontMatter}---\nYou work on orders.\n`;

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
 * All servers, an organization with the agent `Clerk`, and a model provider that counts what it is asked: for tests that
 * break something while orders are under way. `frontMatter` is added to the agent's, such as its limits.
 */
export const startOrderScene = async (
  options: ShamanOptions & { readonly frontMatter?: string; readonly reply?: (call: OrderCall) => ModelReply } = {},
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
  const shaman = await startShaman(options);
  const org = await shaman.givenOrg({ "Clerk.md": AGENT(options.frontMatter ?? "") });
  await shaman.database.inspect(
    "INSERT INTO model_credential (org_id, provider, kind, base_url) VALUES ($1, 'shop', 'openai-compatible', $2)",
    [org.orgId, models.baseUrl],
  );
  const rpc = (order: string, returnImmediately: boolean) => {
    const message = { messageId: order, role: "ROLE_USER", parts: [{ text: order }] };
    return shaman.rpc(org, {
      agent: "Clerk",
      method: "SendMessage",
      params: { message, configuration: { returnImmediately } },
    });
  };
  const isFinal = (task: SentTask | undefined): task is SentTask =>
    task !== undefined && !["TASK_STATE_SUBMITTED", "TASK_STATE_WORKING"].includes(task.status.state);
  return {
    shaman,
    org,
    modelCalls,
    submit: (order) => rpc(order, true),
    send: async (order) => {
      for (;;) {
        const task: SentTask | undefined = await rpc(order, false).then(
          ({ status, json }) => (status === 200 ? json?.result?.task : undefined),
          () => undefined,
        );
        if (isFinal(task)) return task;
        await delay(RETRY_MS);
      }
    },
    close: async () => {
      await shaman.close();
      await models.close();
    },
  };
};
