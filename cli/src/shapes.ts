import type { ApiKeyRecord } from "@shaman/access";
import type { AgentView, RepositoryView } from "@shaman/agents";
import type { McpSourceView, McpToolView } from "@shaman/mcp";
import type { ExternalAgentView } from "@shaman/external";
import type { FailedCallView, RunView, StepView } from "@shaman/runs";
import type { ModelCredential, Organization } from "@shaman/tenancy";

/** What `--json` prints. Scripts rely on these names: add fields, never rename or remove one. */

const time = (at: Date | null): string | null => at?.toISOString() ?? null;

export const organizationJson = (organization: Organization) => ({
  id: organization.id,
  slug: organization.slug,
  name: organization.name,
  createdAt: time(organization.createdAt),
});

export const apiKeyJson = (key: ApiKeyRecord) => ({
  ...key,
  createdAt: time(key.createdAt),
  expiresAt: time(key.expiresAt),
  revokedAt: time(key.revokedAt),
  lastUsedAt: time(key.lastUsedAt),
});

export const repositoryJson = (repository: RepositoryView) => ({
  ...repository,
  createdAt: time(repository.createdAt),
  syncedAt: time(repository.syncedAt),
  attemptedAt: time(repository.attemptedAt),
  nextSyncAt: time(repository.nextSyncAt),
});

export const agentJson = (agent: AgentView) => ({
  id: agent.id,
  name: agent.name,
  path: agent.path,
  repository: agent.repository,
  repositoryId: agent.repositoryId,
  description: agent.description,
  exposed: agent.exposed,
  model: agent.model,
  tags: agent.tags,
  versionId: agent.versionId,
  commit: agent.commit,
  updatedAt: time(agent.updatedAt),
});

export const modelCredentialJson = (credential: ModelCredential) => ({
  ...credential,
  updatedAt: time(credential.updatedAt),
});

export const mcpSourceJson = (source: McpSourceView) => ({
  id: source.id,
  kind: source.kind,
  label: source.label,
  url: source.url,
  transport: source.transport,
  stateless: source.stateless,
  auth: source.auth,
  authorizationExpiredAt: time(source.authorizationExpiredAt),
  tools: source.tools,
  waiting: source.waiting,
  firstSeenAt: time(source.firstSeenAt),
});

export const mcpToolJson = (tool: McpToolView) => ({
  name: tool.name,
  standing: tool.standing,
  hash: tool.hash,
  definition: tool.definition,
  seenAt: time(tool.seenAt),
  approvedAt: time(tool.approvedAt),
  approvedBy: tool.approvedBy,
});

export const externalAgentJson = (agent: ExternalAgentView) => ({
  ...agent,
  cardFetchedAt: time(agent.cardFetchedAt),
  cardExpiresAt: time(agent.cardExpiresAt),
  createdAt: time(agent.createdAt),
  health: {
    ...agent.health,
    lastOkAt: time(agent.health.lastOkAt),
    lastErrorAt: time(agent.health.lastErrorAt),
  },
});

export const runJson = (run: RunView) => ({
  id: run.id,
  taskId: run.taskId,
  contextId: run.contextId,
  agent: run.agent,
  repositoryId: run.repositoryId,
  commit: run.commit,
  state: run.state,
  suspendedOn: run.suspendedOn,
  principal: run.principal,
  apiKeyId: run.apiKeyId,
  apiKeyName: run.apiKeyName,
  userId: run.userId,
  userName: run.userName,
  priority: run.priority,
  attempts: run.attempts,
  steps: run.steps,
  inputTokens: run.inputTokens,
  outputTokens: run.outputTokens,
  costUsd: run.costUsd,
  error: run.error,
  createdAt: time(run.createdAt),
  startedAt: time(run.startedAt),
  finishedAt: time(run.finishedAt),
  wakeAt: time(run.wakeAt),
});

export const stepJson = (step: StepView) => ({
  ...step,
  startedAt: time(step.startedAt),
  finishedAt: time(step.finishedAt),
});

export const failedCallJson = (call: FailedCallView) => ({ ...call, at: time(call.at) });
