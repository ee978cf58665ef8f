import { readFinishedSteps, whenRow, type HistoryStep } from "./run-history.ts";
import type { OrderScene, SentTask } from "./order-scene.ts";
import type { ProcessName } from "./shaman.ts";

/** A process, and a query that gives a row as soon as it is to be killed. */
export type Kill = readonly [ProcessName, string];

const keyOf = ({ taskId, position }: HistoryStep): string => `${taskId} ${position}`;

/**
 * Sends orders all at once and kills processes while they are worked on, each started again at once. Gives their tasks, and
 * what is wrong with the finished steps that were seen on the way: those that are not the same any more.
 */
export const killWhileOrdersRun = async (
  { shaman, org, send }: OrderScene,
  input: { readonly orders: readonly string[]; readonly kills: readonly Kill[] },
): Promise<{ readonly tasks: readonly SentTask[]; readonly seen: number; readonly changed: readonly string[] }> => {
  const { database, processes } = shaman;
  const answers = Promise.all(input.orders.map((order) => send(order)));
  const seen = new Map<string, string>();
  for (const [name, moment] of input.kills) {
    await whenRow(database, moment);
    for (const step of await readFinishedSteps(database, org.orgId)) {
      if (!seen.has(keyOf(step))) seen.set(keyOf(step), JSON.stringify(step));
    }
    await processes[name].kill("SIGKILL");
    await processes[name].start();
  }
  const tasks = await answers;
  const steps = await readFinishedSteps(database, org.orgId);
  const now = new Map(steps.map((step) => [keyOf(step), JSON.stringify(step)]));
  return { tasks, seen: seen.size, changed: [...seen].flatMap(([key, step]) => (now.get(key) === step ? [] : [key])) };
};

/** A part of an order that an agent works on, and how often its model has to be asked when nothing is interrupted. */
export type OrderPart = { readonly part: string; readonly modelSteps: number };

/** The parts of orders for which the model was asked more often than there are steps and interrupted attempts. */
export const findWastedModelCalls = async (
  { shaman, org, modelCalls }: OrderScene,
  partsOf: (order: string) => readonly OrderPart[],
): Promise<readonly string[]> => {
  const runs = await shaman.database.inspect<{ order: string; claims: number }>(
    `SELECT m.content->'parts'->0->>'text' AS order, r.lease_epoch AS claims
     FROM run r JOIN message m ON m.task_id = r.root_task_id AND m.position = 1 WHERE r.org_id = $1`,
    [org.orgId],
  );
  return runs.flatMap(({ order, claims }) =>
    partsOf(order).flatMap(({ part, modelSteps }) => {
      const calls = modelCalls.get(part) ?? 0;
      return calls > modelSteps + claims - 1 ? [`${part}: ${calls} calls, ${modelSteps} steps, ${claims} claims`] : [];
    }),
  );
};
