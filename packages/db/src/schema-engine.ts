import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { PrismaPg } from "@prisma/adapter-pg";
import { bindMigrationAwareSqlAdapterFactory } from "@prisma/driver-adapter-utils";
import type { SchemaEngine } from "@prisma/schema-engine-wasm/schema_engine_bg";
import type { Secret } from "@shaman/kernel";
import pg from "pg";

/**
 * Opens Prisma's schema engine, as WebAssembly, on the schema public of a database for as long as `use` runs, and gives
 * what `use` gives. `databaseUrl` needs the role that owns the tables.
 */
export const withSchemaEngine = async <T>(
  databaseUrl: Secret,
  use: (engine: SchemaEngine) => Promise<T>,
): Promise<T> => {
  const { SchemaEngine } = await loadSchemaEngine();
  const pool = new pg.Pool({ connectionString: databaseUrl.reveal(), max: 2 });
  try {
    const adapter = bindMigrationAwareSqlAdapterFactory(new PrismaPg(pool, { schema: "public" }));
    const engine = await SchemaEngine.new({ datamodels: undefined }, () => undefined, adapter);
    try {
      return await use(engine);
    } finally {
      engine.free();
    }
  } finally {
    await pool.end();
  }
};

/**
 * The engine's JavaScript half holds its WebAssembly half in a variable of the module: a second instance would break
 * what the first still holds, and a second use of it in this process would never end.
 */
let schemaEngine: ReturnType<typeof instantiateSchemaEngine> | undefined;
const loadSchemaEngine = () => (schemaEngine ??= instantiateSchemaEngine());

const instantiateSchemaEngine = async () => {
  const engine = await import("@prisma/schema-engine-wasm/schema_engine_bg");
  const require = createRequire(import.meta.url);
  const wasmPath = require.resolve("@prisma/schema-engine-wasm").replace(/schema_engine\.js$/, "schema_engine_bg.wasm");
  const { instance } = await WebAssembly.instantiate(await readFile(wasmPath), { "./schema_engine_bg.js": engine });
  engine.__wbg_set_wasm(instance.exports);
  // Without this the engine takes every JavaScript value it is handed for another one.
  instance.exports.__wbindgen_start();
  return engine;
};
