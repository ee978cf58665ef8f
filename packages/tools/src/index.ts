export { PLATFORM_TOOL_SPECS, runPlatformTool } from "./platform-tools.ts";
export type { PlatformOutcome, WrittenArtifact } from "./platform-tools.ts";
export { loadCatalogue } from "./catalogue/load-catalogue.ts";
export type { Catalogue, CatalogueEntry } from "./catalogue/catalogue-entry.ts";
export { stdioConfig } from "./catalogue/stdio-config.ts";
export {
  createStdioServers,
  type CatalogueUse,
  type StdioServerEnd,
  type StdioServers,
  type StdioServersDeps,
} from "./catalogue/stdio-servers.ts";
