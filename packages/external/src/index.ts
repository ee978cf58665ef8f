export {
  addExternalAgent,
  addExternalAgentInput,
  type AddedExternalAgent,
  type AddExternalAgentDeps,
  type AddExternalAgentInput,
} from "./add-external-agent.ts";
export type { Binding, CardInterface, ExternalCard, ProtocolVersion, SupportedInterface } from "./card.ts";
export type { CredentialInput, StoredCredential } from "./credential.ts";
export type { ExternalAgentView, ExternalHealth } from "./external-agent.ts";
export { describeOutsideAgents, type NamedOutside } from "./describe-outside-agents.ts";
export {
  createExternalDirectory,
  type ExternalDirectory,
  type ExternalDirectoryDeps,
  type OpenedExternalAgent,
} from "./external-directory.ts";
export { createHealthRecorder, type CallFigures, type HealthRecorder } from "./health-recorder.ts";
export {
  getExternalAgent,
  listExternalAgents,
  type ExternalAgentPage,
  type ListExternalAgentsInput,
} from "./list-external-agents.ts";
export { findExternalTarget, type ExternalTarget } from "./load-external-agent.ts";
export { removeExternalAgent } from "./remove-external-agent.ts";
