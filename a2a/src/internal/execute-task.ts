import type { TokenContext } from "@shaman/access";
import type { AgentDefinition, AgentResolver } from "@shaman/agents";
import type { Db } from "@shaman/db";
import { messageText, runAgent, type EngineEvent } from "@shaman/engine";
import { publicMessageOf, userError, type AppError, type JsonObject } from "@shaman/kernel";
import { costUsd, resolveModels, withListedPrices, type ResolveModelDeps } from "@shaman/llm";
import { loadMemory, loadSteps, whenStepRecorded, type RunWatcher } from "@shaman/runs";
import { defaultSettings, modelsNamed, type OrganizationDirectory } from "@shaman/tenancy";

export type ExecuteTaskDeps = {
  readonly db: Db;
  readonly watcher: RunWatcher;
  readonly agents: AgentResolver;
  readonly models: ResolveModelDeps;
  readonly organizations: Pick<OrganizationDirectory, "byId">;
};

export type ExecuteTaskInput = {
  readonly context: TokenContext;
  readonly message: JsonObject;
  readonly signal: AbortSignal;
};

/** Runs the task that a verified token names, from where its recorded steps end. Its last event tells how it ended. */
export async function* executeTask(
  deps: ExecuteTaskDeps,
  input: ExecuteTaskInput,
): AsyncGenerator<EngineEvent, void, undefined> {
  const { context, message, signal } = input;
  const { tenantId: orgId, runId, taskId, commit } = context;
  const colon = context.agent.indexOf(":");
  const pinned = { orgId, repositoryId: context.agent.slice(0, colon), commit, name: context.agent.slice(colon + 1) };
  const resolved = await deps.agents.resolvePinned(pinned);
  if (!resolved.ok) {
    yield failed(resolved.error);
    return;
  }
  const { definition } = resolved.value;
  const settings = (await deps.organizations.byId(orgId))?.settings ?? defaultSettings;
  const models = modelsNamed(settings, definition.model);
  const [modelName] = models ?? [];
  if (models === undefined || modelName === undefined) {
    yield failed(modelNotSet(definition));
    return;
  }
  const { script } = definition;
  const model = await resolveModels(deps.models, {
    orgId,
    models,
    agent: context.agent,
    cache: { ...settings.modelCache, ...definition.cache },
    ...(script !== undefined && { script: { text: script.text, fileName: script.file } }),
  });
  if (!model.ok) {
    yield failed(model.error);
    return;
  }
  const prices = withListedPrices(settings.prices);
  yield* runAgent(
    {
      model: model.value,
      costUsd: (usage, name) => costUsd(usage, name, prices),
      whenRecorded: (position, until) => whenStepRecorded(deps, { orgId, runId, taskId, position }, until),
    },
    {
      definition,
      modelName,
      message,
      memory: definition.memory === "context" ? await memoryOf(deps.db, { orgId, taskId }) : [],
      // The first holder of a lease is the first to work on the run: nothing can be recorded yet.
      recorded: context.leaseEpoch === 1 ? [] : await loadSteps(deps.db, { orgId, taskId }),
      budget: context.budget,
      deadline: context.deadline,
      signal,
    },
  );
}

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

const failed = (error: AppError): EngineEvent => ({
  type: "failed",
  failure: {
    code: error.code,
    message: error.message,
    publicMessage: publicMessageOf(error),
    retryable: error.kind === "operational",
  },
});
