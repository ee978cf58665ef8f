export { PLATFORM_TOOL_SPECS, runPlatformTool } from "./platform-tools.ts";
export type { PlatformOutcome, WrittenArtifact } from "./platform-tools.ts";
