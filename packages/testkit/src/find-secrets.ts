import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { TestDatabase } from "./test-database.ts";

const BASE64_GROUP = 3;

/** How a secret could stand somewhere without being seen at once: base64 at each place within a group, hexadecimal, escaped. */
const formsOf = (secret: string): readonly string[] => {
  const base64 = Array.from({ length: BASE64_GROUP }, (_, before) => {
    const text = Buffer.from(" ".repeat(before) + secret).toString("base64");
    // The first and last group may share their characters with what stands around it.
    return text.slice(before === 0 ? 0 : 4, -4);
  });
  return [
    secret,
    ...base64,
    ...base64.map((text) => text.replaceAll("+", "-").replaceAll("/", "_")),
    Buffer.from(secret).toString("hex"),
    encodeURIComponent(secret),
    JSON.stringify(secret).slice(1, -1),
  ];
};

const rowsOf = async (database: TestDatabase): Promise<ReadonlyMap<string, string>> => {
  const tables = await database.inspect<{ name: string }>(
    `SELECT format('%I.%I', table_schema, table_name) AS name FROM information_schema.tables
     WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')`,
  );
  const texts = new Map<string, string>();
  for (const { name } of tables) {
    // As JSON a row has every column: texts as they are, bytes in hexadecimal.
    const rows = await database.inspect<{ row: string }>(`SELECT to_jsonb(t)::text AS row FROM ${name} t`);
    texts.set(`table ${name}`, rows.map(({ row }) => row).join("\n"));
  }
  return texts;
};

const filesOf = async (folder: string): Promise<ReadonlyMap<string, string>> => {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  return new Map(
    await Promise.all(paths.map(async (path) => [`file ${path}`, await readFile(path, "latin1")] as const)),
  );
};

/**
 * Every place where one of the secrets stands, as `name of the secret in place`: in any column of any table, in files below
 * the folder, and in the texts, by whatever form it may have there. `places` are those in which there was anything to search.
 */
export const findSecrets = async (input: {
  readonly database: TestDatabase;
  readonly folder: string;
  readonly texts: Readonly<Record<string, string>>;
  readonly secrets: Readonly<Record<string, string>>;
}): Promise<{ readonly found: readonly string[]; readonly places: readonly string[] }> => {
  const places = new Map([
    ...(await rowsOf(input.database)),
    ...(await filesOf(input.folder)),
    ...Object.entries(input.texts),
  ]);
  const wanted = Object.entries(input.secrets).map(([name, secret]) => ({ name, forms: formsOf(secret) }));
  const found = [...places].flatMap(([place, text]) =>
    wanted.filter(({ forms }) => forms.some((form) => text.includes(form))).map(({ name }) => `${name} in ${place}`),
  );
  return { found, places: [...places].filter(([, text]) => text !== "").map(([place]) => place) };
};
