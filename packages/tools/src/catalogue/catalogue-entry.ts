import type { JsonSchemaValidator } from "@shaman/json-schema";
import type { JsonObject, Secret } from "@shaman/kernel";

import type { ReadOnlyBind, SandboxNetwork } from "../sandbox/sandbox-arguments.ts";
import type { SandboxLimits } from "../sandbox/sandbox-limits.ts";

/** A stdio MCP server that this installation's operator lets agents use. */
export type CatalogueEntry = {
  readonly name: string;
  readonly description: string;
  readonly command: string;
  /** With places such as `{{schema}}`, which stand for parameters of the agent file. */
  readonly args: readonly string[];
  /** A JSON Schema of type `object`: what an agent file may give. */
  readonly parameters: JsonObject;
  readonly validateParameters: JsonSchemaValidator;
  /** Parameters that may begin with `-` although an argument begins with them. */
  readonly mayBeginWithDash: readonly string[];
  readonly environment: Readonly<Record<string, Secret>>;
  readonly network: SandboxNetwork;
  readonly readOnly: readonly ReadOnlyBind[];
  readonly limits: SandboxLimits;
  /** How often one run may have the server back after it broke. */
  readonly restarts: number;
};

/** The operator's servers by name. */
export type Catalogue = ReadonlyMap<string, CatalogueEntry>;
