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
export { parseScript, type Problem, type Script } from "./scripted/parse-script.ts";
export { createScriptedModel } from "./scripted/scripted-model.ts";
