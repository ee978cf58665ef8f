import { readYaml, type Problem, type YamlFile } from "@shaman/agents";
import { compileJsonSchema, type JsonSchemaValidator } from "@shaman/json-schema";
import { err, ok, Secret, type Json, type JsonObject, type Result } from "@shaman/kernel";

import type { ReadOnlyBind } from "../sandbox/sandbox-arguments.ts";
import type { Catalogue, CatalogueEntry } from "./catalogue-entry.ts";
import { CATALOGUE_KEYS, catalogueFile, ENTRY_KEYS, secretsFile, type CatalogueFileEntry } from "./catalogue-schema.ts";
import { placesIn, SCRATCH_PLACE } from "./places.ts";

type Text = { readonly file: string; readonly text: string };

type Read<T> = Result<T, readonly Problem[]>;

type Shape<T> = {
  readonly safeParse: (
    value: unknown,
  ) => { success: true; data: T } | { success: false; error: Parameters<YamlFile["problemsOfShape"]>[0] };
};

/** YAML of the given shape, with the way back to its lines. */
const readShape = <T>(source: Text, shape: Shape<T>): Read<{ readonly yaml: YamlFile; readonly data: T }> => {
  const yaml = readYaml(source);
  if (!yaml.ok) return yaml;
  const parsed = shape.safeParse(yaml.value.value);
  if (parsed.success) return ok({ yaml: yaml.value, data: parsed.data });
  const servers = Object.keys(Object(Object(yaml.value.value).servers));
  const known = { ...CATALOGUE_KEYS, ...Object.fromEntries(servers.map((name) => [`servers.${name}`, ENTRY_KEYS])) };
  return err(yaml.value.problemsOfShape(parsed.error, known));
};

const readSecrets = (source: Text | undefined): Read<ReadonlyMap<string, Secret>> => {
  if (source === undefined) return ok(new Map());
  const read = readShape(source, secretsFile);
  if (!read.ok) return read;
  const { data, yaml } = read.value;
  const broken = Object.keys(data).filter((name) => data[name]?.includes("\0"));
  if (broken.length > 0) return err(broken.map((name) => yaml.problemAt([name], `${name} must not hold NUL`)));
  return ok(new Map(Object.entries(data).map(([name, value]) => [name, new Secret(value)])));
};

/** The parameters that a schema names, or why it is not one for parameters. */
const parameterNames = (schema: JsonObject): readonly string[] | undefined => {
  const { type, properties = {} } = schema;
  const isMap = typeof properties === "object" && properties !== null && !Array.isArray(properties);
  return type === "object" && isMap ? Object.keys(properties) : undefined;
};

type EntryCheck = {
  readonly entry: CatalogueFileEntry;
  readonly secrets: ReadonlyMap<string, Secret>;
  readonly at: (path: readonly PropertyKey[], message: string) => Problem;
};

const argumentProblems = ({ entry, at }: EntryCheck, names: readonly string[]): readonly Problem[] => {
  const unknown = entry.args.flatMap((argument, index) =>
    placesIn(argument)
      .filter((name) => name !== SCRATCH_PLACE && !names.includes(name))
      .map((name) => at(["args", index], `args: {{${name}}} is no property of parameters`)),
  );
  const used = entry.args.flatMap(placesIn);
  const unused = names
    .filter((name) => !used.includes(name))
    .map((name) => at(["parameters", "properties", name], `parameters: ${name} has no place in args`));
  const undashed = entry.mayBeginWithDash
    .filter((name) => !names.includes(name))
    .map((name) => at(["mayBeginWithDash"], `mayBeginWithDash: ${name} is no property of parameters`));
  const reserved = names.includes(SCRATCH_PLACE)
    ? [at(["parameters", "properties", SCRATCH_PLACE], `{{${SCRATCH_PLACE}}} is the working folder: name it otherwise`)]
    : [];
  return [...unknown, ...unused, ...undashed, ...reserved];
};

const checkParameters = (check: EntryCheck): Read<JsonSchemaValidator> => {
  const schema = check.entry.parameters;
  const names = parameterNames(schema);
  if (names === undefined) return err([check.at(["parameters"], "parameters must be of type: object")]);
  const problems = argumentProblems(check, names);
  const compiled = compileJsonSchema(schema);
  if (!compiled.ok) return err([...problems, check.at(["parameters"], `parameters: the schema ${compiled.error}`)]);
  return problems.length > 0 ? err(problems) : ok(compiled.value);
};

/** The binds of an entry, and the program itself where none of them, nor the libraries that all see, holds it. */
const withProgram = ({ command, readOnly }: CatalogueFileEntry): readonly ReadOnlyBind[] => {
  const shown = ["/usr/lib", "/lib", ...readOnly.map(({ to }) => to)];
  const isShown = command === "node" || shown.some((path) => command === path || command.startsWith(`${path}/`));
  return isShown ? readOnly : [...readOnly, { from: command, to: command }];
};

const readEntry = (name: string, check: EntryCheck): Read<CatalogueEntry> => {
  const { entry, secrets, at } = check;
  const problems: Problem[] = [];
  const environment: Record<string, Secret> = {};
  for (const [variable, secretName] of Object.entries(entry.environment)) {
    const secret = secrets.get(secretName);
    if (secret === undefined) {
      const message = `environment: there is no ${secretName} in the file of MCP_CATALOGUE_SECRETS`;
      problems.push(at(["environment", variable], message));
    } else environment[variable] = secret;
  }
  const validate = checkParameters(check);
  if (!validate.ok) return err([...problems, ...validate.error]);
  if (problems.length > 0) return err(problems);
  const { limits, ...rest } = entry;
  const { sandbox, restarts } = limits;
  const readOnly = withProgram(entry);
  return ok({ ...rest, name, environment, readOnly, limits: sandbox, restarts, validateParameters: validate.value });
};

/** What is read: the catalogue's own file, and the one with the values that its `environment` names. */
export type CatalogueSource = { readonly catalogue: Text; readonly secrets?: Text };

/**
 * Reads an operator's catalogue. Everything wrong in it is told with file and line, and then there is no catalogue: a
 * server that is half described is not started.
 */
export const readCatalogue = (source: CatalogueSource): Read<Catalogue> => {
  const file = readShape(source.catalogue, catalogueFile);
  const secrets = readSecrets(source.secrets);
  if (!file.ok || !secrets.ok) return err([...(file.ok ? [] : file.error), ...(secrets.ok ? [] : secrets.error)]);
  const problems: Problem[] = [];
  const entries = new Map<string, CatalogueEntry>();
  for (const [name, entry] of Object.entries(file.value.data.servers)) {
    const at: EntryCheck["at"] = (path, message) =>
      file.value.yaml.problemAt(["servers", name, ...path], `${name}: ${message}`);
    const read = readEntry(name, { entry, secrets: secrets.value, at });
    if (read.ok) entries.set(name, read.value);
    else problems.push(...read.error);
  }
  return problems.length > 0 ? err(problems) : ok(entries);
};

/** The default that a parameter's own schema gives. */
export const defaultOf = (entry: CatalogueEntry, name: string): Json | undefined => {
  const properties = entry.parameters["properties"];
  const property = new Map(Object.entries(Object(properties))).get(name);
  const given: unknown = Object(property).default;
  // The catalogue came out of a JSON-shaped file, so what lies in it is JSON.
  return given as Json | undefined;
};
