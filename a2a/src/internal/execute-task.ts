import type { TokenContext } from "@shaman/access";
import type { AgentDefinition } from "@shaman/agents";
import type { Db } from "@shaman/db";
import {
  fullNameOf,
  messageText,
  runAgent,
  type EngineDeps,
  type EngineEvent,
  type RunAgentInput,
} from "@shaman/engine";
import { err, ok, publicMessageOf, userError, type AppError, type JsonObject, type Result } from "@shaman/kernel";
import { costUsd, resolveModels, withListedPrices, type ResolveModelDeps } from "@shaman/llm";
import {
  findSharedValue,
  listSharedValues,
  loadMemory,
  loadSteps,
  startStep,
  whenStepRecorded,
  whenValueShared,
  type RunWatcher,
} from "@shaman/runs";
import { defaultSettings, modelsNamed, type OrganizationDirectory } from "@shaman/tenancy";
import type { ToolSet } from "@shaman/tools";
import { createAgentCalls, type AgentCallsDeps } from "./agent-calls.ts";

/** Whose tools are to be opened, and for how long at most. */
export type OpenToolsInput = {
  readonly definition: AgentDefinition;
  readonly repositoryId: string;
  readonly context: TokenContext;
  readonly signal: AbortSignal;
};

export type ExecuteTaskDeps = AgentCallsDeps & {
  readonly db: Db;
  readonly watcher: RunWatcher;
  readonly models: ResolveModelDeps;
  readonly organizations: Pick<OrganizationDirectory, "byId">;
  /** The tools of one run of an agent, beyond the platform's own. */
  readonly openTools: (input: OpenToolsInput) => Promise<ToolSet>;
};

export type ExecuteTaskInput = {
  readonly context: TokenContext;
  readonly contextId: string;
  readonly message: JsonObject;
  /** Resolves when the run is on record: until then nothing may ask for its rows, and nobody be asked for anything. */
  readonly onRecord: Promise<void>;
  readonly signal: AbortSignal;
};

type Prepared = Pick<RunAgentInput, "definition" | "modelName" | "toolOutputBytes" | "lineage"> & {
  readonly engine: EngineDeps;
};

/**
 * Makes the task ready that a verified token names, and waits until its run is on record. The events run it as they are
 * asked for, from where its recorded steps end; the last one tells how it ended.
 */
export const executeTask = async (
  deps: ExecuteTaskDeps,
  input: ExecuteTaskInput,
): Promise<AsyncGenerator<EngineEvent, void, undefined>> => {
  const { context, message, onRecord, signal } = input;
  const { tenantId: orgId, taskId } = context;
  const prepared = await prepare(deps, input);
  await onRecord;
  if (!prepared.ok) return onlyFailed(prepared.error);
  const { engine, ...agent } = prepared.value;
  return runAgent(engine, {
    ...agent,
    taskId,
    message,
    memory: agent.definition.memory === "context" ? await memoryOf(deps.db, { orgId, taskId }) : [],
    // The first holder of a lease is the first to work on the run: nothing can be recorded yet.
    recorded: context.leaseEpoch === 1 ? [] : await loadSteps(deps.db, { orgId, taskId }),
    budget: context.budget,
    deadline: context.deadline,
    leaseEpoch: context.leaseEpoch,
    parent: context.parentTaskId === undefined ? undefined : { attemptsLeft: context.attemptsLeft },
    signal,
  });
};

/** What can be done before the run is on record: nothing here asks for its rows. */
const prepare = async (deps: ExecuteTaskDeps, { context, contextId }: ExecuteTaskInput): Promise<Result<Prepared>> => {
  const { tenantId: orgId, commit } = context;
  const colon = context.agent.indexOf(":");
  const pinned = { orgId, repositoryId: context.agent.slice(0, colon), commit, name: context.agent.slice(colon + 1) };
  const resolved = await deps.agents.resolvePinned(pinned);
  if (!resolved.ok) return resolved;
  const { definition, repositoryId } = resolved.value;
  const settings = (await deps.organizations.byId(orgId))?.settings ?? defaultSettings;
  const models = modelsNamed(settings, definition.model);
  const [modelName] = models ?? [];
  if (models === undefined || modelName === undefined) return err(modelNotSet(definition));
  const { script } = definition;
  const model = await resolveModels(deps.models, {
    orgId,
    models,
    agent: context.agent,
    cache: { ...settings.modelCache, ...definition.cache },
    ...(script !== undefined && { script: { text: script.text, fileName: script.file } }),
  });
  if (!model.ok) return model;
  const prices = withListedPrices(settings.prices);
  const engine: EngineDeps = {
    model: model.value,
    costUsd: (usage, name) => costUsd(usage, name, prices),
    openTools: (_, until) => deps.openTools({ definition, repositoryId, context, signal: until }),
    calls: await createAgentCalls(deps, { context, contextId, agent: resolved.value }),
    ...recordOf(deps, context),
  };
  return ok({
    engine,
    definition,
    modelName,
    toolOutputBytes: settings.run.toolOutputBytes,
    lineage: [...context.ancestors, fullNameOf({ repositoryId, path: definition.path })],
  });
};

/** What of the run's record the engine reads, and the one thing it writes: that a step begins. */
const recordOf = (
  deps: ExecuteTaskDeps,
  context: TokenContext,
): Pick<EngineDeps, "whenRecorded" | "startStep" | "shared"> => {
  const { tenantId: orgId, runId, taskId, leaseEpoch, leaseHolder } = context;
  const at = { orgId, runId };
  return {
    whenRecorded: (position, until) => whenStepRecorded(deps, { ...at, taskId, position }, until),
    startStep: (start) => startStep(deps.db, { ...start, ...at, taskId, leaseEpoch, leaseHolder }),
    shared: {
      find: (name) => findSharedValue(deps.db, { ...at, name }),
      list: () => listSharedValues(deps.db, at),
      whenShared: (name, until) => whenValueShared(deps, { ...at, name }, until),
    },
  };
};

const modelNotSet = ({ name, model }: AgentDefinition): AppError =>
  userError(
    "model_not_set",
    model === undefined
      ? `The agent ${name} names no model, and the organization has no default: ./shaman model set-alias default provider/model`
      : `The agent ${name} wants the model "${model}", and the organization has no model alias of that name: ./shaman model set-alias ${model} provider/model`,
  );

const memoryOf = async (db: Db, task: { readonly orgId: string; readonly taskId: string }) => {
  const exchanges = await loadMemory(db, task);
  return exchanges.map(({ message, answer }) => ({
    prompt: messageText(message),
    answer: messageText({ parts: answer }),
  }));
};

async function* onlyFailed(error: AppError): AsyncGenerator<EngineEvent, void, undefined> {
  const { code, message } = error;
  const failure = { code, message, publicMessage: publicMessageOf(error), retryable: error.kind === "operational" };
  yield { type: "failed", failure };
}
