import {
  BACKENDS,
  findBrokenPromises,
  findWastedModelCalls,
  startOrderScene,
  whenRow,
  type ModelReply,
  type OrderCall,
  type OrderScene,
} from "@shaman/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

/** More than a row of an artifact holds, so that its content goes to the store. */
const LARGE_BYTES = 300_000;

const contentOf = (order: string, table: string): string =>
  table === "stored_object" ? order.padEnd(LARGE_BYTES, ".") : `about ${order}`;

/** What an order writes is in its name. Its answer has text in the last turn only, so that nothing else is written before. */
const reply = ({ order, turn, call }: OrderCall): ModelReply => {
  const usage = { inputTokens: 100, outputTokens: 10 };
  const table = /^order-(artifact|run_data|stored_object)-/.exec(order)?.[1] ?? "";
  if (turn > 1) return { usage, text: [`Written: ${order}`] };
  const content = contentOf(order, table);
  const name = "paper.txt";
  return table === "run_data"
    ? { usage, toolCalls: [{ id: `t-${call}`, name: "run_data_write", input: { name: "paper", value: content } }] }
    : { usage, toolCalls: [{ id: `t-${call}`, name: "write_artifact", input: { name, content } }] };
};

const WAITS = `SELECT 1 FROM pg_locks WHERE NOT granted AND relation = $1::regclass
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`;

describe.each(BACKENDS)("kill -9 while what an agent writes waits for its commit, on %s", (backend) => {
  let scene: OrderScene;
  beforeAll(async () => {
    scene = await startOrderScene({ backend, reply });
  });
  afterAll(() => scene.close());

  /** What became of the order: its root's steps, its artifacts by name with their content, and the values it shares. */
  const outcomeOf = async (taskId: string) => {
    const { database } = scene.shaman;
    const steps = await database.inspect<{ kind: string; state: string }>(
      "SELECT kind, state FROM step WHERE task_id = $1 ORDER BY position",
      [taskId],
    );
    const values = await database.inspect<{ value: unknown }>(
      "SELECT value FROM run_data WHERE run_id = (SELECT run_id FROM task WHERE id = $1)",
      [taskId],
    );
    return { steps: steps.map(({ kind, state }) => `${kind} ${state}`), values: values.map(({ value }) => value) };
  };

  const contentsOf = (task: Awaited<ReturnType<OrderScene["send"]>>): Promise<readonly (string | undefined)[]> =>
    Promise.all(
      task.artifacts
        .filter(({ artifactId }) => artifactId === "artifact-2")
        .flatMap(({ parts }) => parts)
        .map(async ({ text, url }) => {
          if (url === undefined) return text;
          const { pathname, search } = new URL(url);
          return (await scene.shaman.http(scene.org, { path: `${pathname}${search}` })).text;
        }),
    );

  test.each(
    (["artifact", "run_data", "stored_object"] as const).flatMap((table) =>
      (["public", "worker", "internal"] as const).map((name) => [table, name] as const),
    ),
  )("a row of %s, of the %s server: it is written once, and its step is done once", async (table, name) => {
    const { database, processes } = scene.shaman;
    const order = `order-${table}-${name}`;
    const release = await database.holdWrites(table);
    const sent = scene.send(order);
    try {
      await whenRow(database, WAITS, [table]);
      await processes[name].kill("SIGKILL");
      await processes[name].start();
    } finally {
      await release();
    }
    const task = await sent;
    expect(task.status.state).toBe("TASK_STATE_COMPLETED");
    const { steps, values } = await outcomeOf(task.id);
    expect(steps).toEqual(["model done", "tool done", "model done"]);
    const content = contentOf(order, table);
    expect(values).toEqual(table === "run_data" ? [content] : []);
    expect(await contentsOf(task)).toEqual(table === "run_data" ? [] : [content]);
    expect(await findWastedModelCalls(scene, (part) => [{ part, modelSteps: 2 }])).toEqual([]);
    expect(await findBrokenPromises(database, scene.org.orgId)).toEqual([]);
  });
});
