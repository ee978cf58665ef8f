export { compileJsonSchema, type JsonSchemaValidator } from "./compile-json-schema.ts";
export { findJsonSchemaProblem } from "./json-schema-problem.ts";
