import type { Db } from "@shaman/db";
import { isJsonObject, type Json, type JsonObject } from "@shaman/kernel";
import {
  approvalIdOf,
  findDecision,
  leaseLost,
  loadSteps,
  recordBatch,
  type LeasedRun,
  type OpenCommand,
  type StepRecord,
} from "@shaman/runs";

const REPLIES: ReadonlySet<string> = new Set(["answer", "approve", "refuse"]);

/**
 * Records what somebody said to a suspended run as the result of the step that asked, so that the replay finds it. A
 * decision about another approval than the one that is waited for changes nothing, and the run asks again.
 */
export const applyReply = async (db: Db, run: LeasedRun): Promise<void> => {
  const command = run.commands.find(({ kind }) => REPLIES.has(kind));
  if (command === undefined) return;
  const asked = await findAsked(db, run, command);
  const output = asked === undefined ? undefined : outputOf(command, asked);
  const steps = asked === undefined || output === undefined ? [] : [{ ...asked, state: "done" as const, output }];
  const message = operatorMessage(command.payload);
  const recorded = await recordBatch(db, run, {
    events: steps.map(({ taskId, position, kind, name, state }) => ({
      type: "step" as const,
      taskId,
      payload: { position, kind, name, state },
    })),
    tasks: [],
    steps: steps.map((step) => ({ ...step, agent: run.agent })),
    artifacts: [],
    agentMessages: [],
    userMessages: message === undefined ? [] : [{ taskId: run.rootTaskId, message }],
    appliedCommands: [command.id],
    audit: [],
  });
  if (recorded === undefined) throw leaseLost(run.runId);
};

type Asked = StepRecord & { readonly taskId: string };

/** The step that waits: what the run was suspended on, or where nothing says so the last question of the task. */
const findAsked = async (db: Db, run: LeasedRun, command: OpenCommand): Promise<Asked | undefined> => {
  const taskId = run.waitsFor?.taskId ?? command.taskId;
  const steps = await loadSteps(db, { orgId: run.orgId, taskId });
  const open = steps.filter(({ kind, state }) => (kind === "input" || kind === "approval") && state === "started");
  const step =
    run.waitsFor === undefined ? open.at(-1) : open.find(({ position }) => position === run.waitsFor?.position);
  return step === undefined ? undefined : { ...step, taskId };
};

const outputOf = (command: OpenCommand, asked: Asked): Json | undefined => {
  const said = operatorMessage(command.payload) ?? command.payload;
  if (asked.kind !== "approval") return command.kind === "answer" ? said : undefined;
  const by = command.actor;
  if (command.kind === "approve" || command.kind === "refuse") {
    const { approvalId, reason } = command.payload;
    if (approvalId !== approvalIdOf(asked)) return undefined;
    return { decision: command.kind, by, ...(typeof reason === "string" && { reason }) };
  }
  const decision = findDecision(said);
  // Words alone never approve: they may have been meant for another question. They are why it is refused.
  if (decision === undefined) return { decision: "refuse", by, reason: textOf(said) };
  if (decision.id !== approvalIdOf(asked)) return undefined;
  return { decision: decision.decision, by, ...(decision.reason !== undefined && { reason: decision.reason }) };
};

/** The message of an operator's answer, which nobody has recorded before; a caller's was at intake. */
const operatorMessage = (payload: JsonObject): JsonObject | undefined =>
  payload.message !== undefined && isJsonObject(payload.message) ? payload.message : undefined;

const textOf = (message: JsonObject): string => {
  const parts = Array.isArray(message.parts) ? message.parts : [];
  return parts.map((part) => (isJsonObject(part) && typeof part.text === "string" ? part.text : "")).join("\n");
};
