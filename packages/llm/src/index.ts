export { leastTokens } from "./least-tokens.ts";
export { MEDIA_TYPES, withoutContent } from "./media.ts";
export { billedUsageOf, isRetryableModelError, MODEL_ERROR_CODES, type ModelErrorCode } from "./model-error.ts";
export type {
  FinishReason,
  BilledUsage,
  Media,
  Model,
  ModelAttempt,
  ModelEvent,
  ModelMessage,
  ModelNotes,
  ModelRequest,
  ModelUsage,
  ToolCall,
  ToolResult,
  ToolSpec,
} from "./model-port.ts";
export { costUsd, listedPrices, priceTableSchema, withListedPrices, type PriceTable } from "./prices.ts";
export type { ModelTimeouts } from "./provider/phase-timer.ts";
export {
  createProviderModel,
  PROVIDER_KINDS,
  type ProviderDeps,
  type ProviderKind,
  type ProviderSettings,
} from "./provider/provider-model.ts";
export { resolveModels, type ModelListReference, type ResolveModelDeps } from "./resolve-model.ts";
export { createScriptedModel } from "./scripted/scripted-model.ts";
export { billedStepUsage, modelStepUsage } from "./step-usage.ts";
