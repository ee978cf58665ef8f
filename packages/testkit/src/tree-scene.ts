import { setTimeout as delay } from "node:timers/promises";
import type { ModelReply } from "./model-server.ts";
import type { OrderPart } from "./kill-orders.ts";
import type { OrderCall } from "./order-scene.ts";

/** Front matter of the agents that work on an order together; `Clerk` is there in every scene. */
export const TREE_AGENTS = { Helper: "", Checker: "", Deep: "" };
export const TREE_TASKS = 4;
/** Clerk: model, two calls, tool, model. Helper: model, call, tool, model. Deep: model, tool, model. Checker: model. */
export const TREE_STEPS = 13;

/** How often the model has to be asked for each part of an order, when nothing is interrupted. */
export const treeModelSteps = (part: string): number => (part.endsWith("-checker") ? 1 : 2);

/** What becomes of an order: what each of the four agents is sent. */
export const treeParts = (order: string): readonly OrderPart[] =>
  [order, `${order}-helper`, `${order}-helper-deep`, `${order}-checker`].map((part) => ({
    part,
    modelSteps: treeModelSteps(part),
  }));

const SHORTEST_MS = 5;
const SPREAD_MS = 30;

const callAgent = (id: string, agent: string, message: string) => ({
  id,
  name: "call_agent",
  input: { agent, message },
});
const write = (id: string, content: string) => ({ id, name: "write_artifact", input: { name: `${id}.txt`, content } });

/**
 * What the model answers for an order that four agents work on: the root calls two, one of which calls a fourth. A part's
 * name says whose it is: `order-1`, `order-1-helper`, `order-1-helper-deep`, `order-1-checker`.
 */
export const treeReply = ({ order, turn, call }: OrderCall): ModelReply => {
  const mark = `${order} turn ${turn} call ${call}`;
  const pace = {
    before: delay(Math.random() * SPREAD_MS),
    between: delay(SHORTEST_MS + Math.random() * SPREAD_MS),
    usage: { inputTokens: 100, outputTokens: 10 },
  };
  const last = { ...pace, text: ["Done: ", mark] };
  if (order.endsWith("-checker") || turn > 1) return last;
  if (order.endsWith("-deep")) return { ...pace, toolCalls: [write(`deep-${call}`, mark)] };
  if (order.endsWith("-helper")) {
    return { ...pace, toolCalls: [callAgent(`c-${call}`, "Deep", `${order}-deep`), write(`help-${call}`, mark)] };
  }
  const calls = [
    callAgent(`h-${call}`, "Helper", `${order}-helper`),
    callAgent(`k-${call}`, "Checker", `${order}-checker`),
  ];
  return { ...pace, text: ["Looking into ", mark], toolCalls: [...calls, write(`receipt-${call}`, mark)] };
};
