export { isRetryableModelError, MODEL_ERROR_CODES, type ModelErrorCode } from "./model-error.ts";
export type {
  FinishReason,
  Model,
  ModelEvent,
  ModelMessage,
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
export { resolveModel, type ModelReference, type ResolveModelDeps } from "./resolve-model.ts";
export { createScriptedModel } from "./scripted/scripted-model.ts";
