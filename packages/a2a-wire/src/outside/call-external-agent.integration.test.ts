import { randomBytes } from "node:crypto";
import { getExternalAgent } from "@shaman/external";
import { Secret, unwrap } from "@shaman/kernel";
import {
  outcomeArtifactText,
  outcomeOf,
  readCall,
  startExternalCallScene,
  startOutsideAgent,
  type ExternalCallScene,
  type OutsideAgent,
  type OutsideInterface,
} from "@shaman/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { cancelExternalTask, externalMessageId, type ExternalOutcome } from "./call-external-agent.ts";
import { externalOutcomeText } from "./outcome-text.ts";
import { probeExternalAgent } from "./probe-external-agent.ts";

/** Outside agents made with the official SDK, in processes of their own. */

let scene: ExternalCallScene;
let streaming: OutsideAgent;
let blocking: OutsideAgent;
beforeAll(async () => {
  scene = await startExternalCallScene();
  [streaming, blocking] = await Promise.all([startOutsideAgent(), startOutsideAgent({ streaming: false })]);
});
afterAll(async () => {
  await Promise.all([streaming.close(), blocking.close()]);
  await scene.close();
});

const newMessageId = (): string =>
  externalMessageId({ orgId: "org", taskId: randomBytes(8).toString("hex"), position: 1 });

const INTERFACES: readonly OutsideInterface[] = ["rpc", "rest", "old-rpc", "old-rest"];
const EVERY = INTERFACES.flatMap((name) => [
  { name, way: "streaming", agent: () => streaming },
  { name, way: "polling", agent: () => blocking },
]);

describe.each(EVERY)("an outside agent by $name, $way", ({ name, agent }) => {
  test("answers with a task whose artifacts come whole, and its id is known from the first event on", async () => {
    const { call } = await scene.given(agent().cardUrl(name));
    const { seen, outcome } = await readCall(call("echo good morning"));
    expect(outcome).toMatchObject({ kind: "task", state: "completed" });
    expect(outcomeArtifactText(outcome)).toBe("Echo: good morning");
    expect(outcome.remote.taskId).toBeTypeOf("string");
    expect(outcome.remote.contextId).toBeTypeOf("string");
    for (const event of seen) if (event.kind !== "outcome") expect(event.remote.taskId).toBe(outcome.remote.taskId);
    expect(JSON.parse(externalOutcomeText("Partner", outcome))).toMatchObject({
      outsideAgent: "Partner",
      state: "completed",
      answer: [{ artifact: "answer.txt", content: ["Echo: good morning"] }],
    });
  });

  test("answers with a message alone", async () => {
    const { call } = await scene.given(agent().cardUrl(name));
    const outcome = await outcomeOf(call("talk"));
    expect(outcome).toMatchObject({
      kind: "message",
      message: { role: "ROLE_AGENT", parts: [{ text: "Just talk." }] },
    });
  });

  test("brings files and data in the shapes of 1.0", async () => {
    const { call } = await scene.given(agent().cardUrl(name));
    const outcome = await outcomeOf(call("files"));
    if (outcome.kind !== "task") throw new Error(outcome.kind);
    expect(outcome.artifacts[0]?.parts[0]).toMatchObject({ raw: "aGk=", mediaType: "image/png" });
    expect(outcome.artifacts[0]?.parts[1]).toMatchObject({ data: { total: 7 } });
  });

  test("asks, and goes on with the same task when it is answered", async () => {
    const { call } = await scene.given(agent().cardUrl(name));
    const asked = await outcomeOf(call("ask"));
    expect(asked).toMatchObject({
      kind: "interrupted",
      state: "input_required",
      message: { parts: [{ text: "Which order?" }] },
    });
    const { taskId = "", contextId = "" } = asked.remote;
    const answered = await outcomeOf(call("A-1001", { taskId, contextId }));
    expect(answered).toMatchObject({ kind: "task", state: "completed", remote: { taskId, contextId } });
    expect(outcomeArtifactText(answered)).toBe("You said A-1001.");
  });

  test("says that it needs a login, and that it failed", async () => {
    const { call } = await scene.given(agent().cardUrl(name));
    expect(await outcomeOf(call("login"))).toMatchObject({ kind: "interrupted", state: "auth_required" });
    expect(await outcomeOf(call("fail"))).toMatchObject({
      kind: "task",
      state: "failed",
      message: { parts: [{ text: "It did not work." }] },
    });
  });

  test("is asked to cancel when the call is aborted, and the abort is thrown", async () => {
    const { call } = await scene.given(agent().cardUrl(name));
    const abort = new AbortController();
    const reason = new Error("not wanted any more");
    const gate = randomBytes(4).toString("hex");
    const reading = (async () => {
      for await (const event of call(`hold ${gate}`, { signal: abort.signal })) {
        if (event.kind === "artifact") abort.abort(reason);
      }
    })();
    await expect(reading).rejects.toBe(reason);
    const { taskId } = await agent().whenTold("working", ({ text }) => text === `hold ${gate}`);
    await agent().whenTold("canceled", (message) => message.taskId === taskId);
    agent().release(gate);
  });

  test("is entered again by its task id after a crash, without a second message, and gives everything", async () => {
    const { call } = await scene.given(agent().cardUrl(name));
    const gate = randomBytes(4).toString("hex");
    const message = { messageId: newMessageId(), parts: [{ text: `hold ${gate}` }] };
    const crash = new AbortController();
    let recorded: ExternalOutcome["remote"] = {};
    const first = (async () => {
      for await (const event of call("", { message, signal: crash.signal, shouldCancel: () => false })) {
        if (event.kind !== "outcome") recorded = event.remote;
        if (recorded.taskId !== undefined) crash.abort(new Error("crash"));
      }
    })();
    await expect(first).rejects.toThrow("crash");
    const again = readCall(call("", { message, reentry: recorded }));
    agent().release(gate);
    const { outcome } = await again;
    expect(outcome).toMatchObject({ kind: "task", state: "completed", remote: { taskId: recorded.taskId } });
    expect(outcomeArtifactText(outcome)).toBe("One moment, done.");
    const sent = agent().told.filter((told) => told.kind === "working" && told.messageId === message.messageId);
    expect(sent).toHaveLength(1);
    expect(agent().told.some((told) => told.kind === "canceled" && told.taskId === recorded.taskId)).toBe(false);
  });

  test("cancels a task by its id alone, and says when there is nothing to cancel", async () => {
    const { call, deps, orgId, target } = await scene.given(agent().cardUrl(name));
    const gate = randomBytes(4).toString("hex");
    const left = new AbortController();
    const leaving = (async () => {
      for await (const event of call(`hold ${gate}`, { signal: left.signal, shouldCancel: () => false })) {
        if (event.kind === "artifact") left.abort(new Error("gone"));
      }
    })();
    await expect(leaving).rejects.toThrow("gone");
    const { taskId } = await agent().whenTold("working", ({ text }) => text === `hold ${gate}`);
    const cancel = (id: string) =>
      cancelExternalTask(deps, { orgId, target, taskId: id, signal: new AbortController().signal });
    expect(await cancel(taskId)).toMatchObject({ ok: true });
    await agent().whenTold("canceled", (message) => message.taskId === taskId);
    agent().release(gate);
    const { remote } = await outcomeOf(call("echo x"));
    expect(await cancel(remote.taskId ?? "")).toMatchObject({ error: { code: "external_task_not_cancelable" } });
    expect(await cancel("no-such-task")).toMatchObject({ error: { code: "external_task_not_found" } });
  });

  test("can be probed without giving it anything to do", async () => {
    const { orgId, operator, deps, target, health } = await scene.given(agent().cardUrl(name));
    const signal = new AbortController().signal;
    const probe = unwrap(await probeExternalAgent(deps, { orgId, target, signal }));
    expect(probe.agent.card.name).toBe("Outside agent");
    await health.close();
    const view = unwrap(await getExternalAgent({ db: scene.database.as("web") }, operator, "Partner"));
    expect(view.health).toMatchObject({ calls: 1, errors: 0 });
  });
});

describe("every request to an outside agent", () => {
  test("names version, required extensions and trace, and carries the API key in the header the card names", async () => {
    const agent = await startOutsideAgent({
      headers: { "x-partner-key": "k-123" },
      requiredExtension: "https://example.com/ext/v1",
      card: {
        securitySchemes: { key: { apiKeySecurityScheme: { location: "header", name: "X-Partner-Key" } } },
        securityRequirements: [{ schemes: { key: { list: [] } } }],
      },
    });
    try {
      for (const name of ["rpc", "rest"] as const) {
        const credential = { kind: "apiKey", key: new Secret("k-123") } as const;
        const { call } = await scene.given(agent.cardUrl(name), { credential });
        const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        const outcome = await outcomeOf(call("echo x", { traceparent }));
        expect(outcome).toMatchObject({ kind: "task", state: "completed" });
        const asked = agent.told.filter((told) => told.kind === "request" && told.path.startsWith(`/${name}`));
        expect(asked.length).toBeGreaterThan(0);
        for (const told of asked) {
          expect(told).toMatchObject({
            headers: {
              "a2a-version": "1.0",
              "a2a-extensions": "https://example.com/ext/v1",
              "x-partner-key": "k-123",
              traceparent,
            },
          });
        }
      }
    } finally {
      await agent.close();
    }
  });

  test("without its credential is an authentication error that was not delivered", async () => {
    const agent = await startOutsideAgent({ headers: { authorization: "Bearer right" } });
    try {
      for (const name of INTERFACES) {
        const wrong = { kind: "bearer", token: new Secret("wrong") } as const;
        const { call } = await scene.given(agent.cardUrl(name), { credential: wrong });
        const outcome = await outcomeOf(call("echo x"));
        expect(outcome).toMatchObject({
          kind: "error",
          error: { code: "external_unauthenticated" },
          delivered: "no",
        });
        const right = { kind: "bearer", token: new Secret("right") } as const;
        const allowed = await scene.given(agent.cardUrl(name), { credential: right });
        expect(await outcomeOf(allowed.call("echo x"))).toMatchObject({ kind: "task", state: "completed" });
      }
      expect(agent.told.some(({ kind }) => kind === "working")).toBe(true);
    } finally {
      await agent.close();
    }
  });
});
