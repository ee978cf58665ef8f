import { createInterface } from "node:readline/promises";
import { Writable, type Readable } from "node:stream";
import { Secret, userError } from "@shaman/kernel";

/** Where the command line reads and writes; a test or a script may stand on the other side. */
export type Io = {
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
  readonly stdin: Readable & { readonly isTTY?: boolean };
  readonly stderr: Writable;
};

const MAX_SECRET_CHARS = 16_384;

/**
 * Reads a secret without showing it: asked for at a terminal, else the first line of what is piped in. Never an
 * argument, because every user of the machine can see those.
 */
export const readSecret = async (io: Io, question: string): Promise<Secret> => {
  const text = io.stdin.isTTY === true ? await askHidden(io, question) : await readFirstLine(io.stdin);
  if (text === "") throw userError("secret_empty", "No secret was given: type it when asked, or pipe it in.");
  return new Secret(text);
};

/** A secret from a variable that the user named. */
export const secretFromVariable = (
  from: { readonly variable: (name: string) => string | undefined },
  name: string,
): Secret => {
  const value = from.variable(name);
  if (value !== undefined && value !== "") return new Secret(value);
  throw userError("variable_empty", `The variable ${name} is empty or not set.`);
};

const askHidden = async (io: Io, question: string): Promise<string> => {
  io.err(question);
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
  const lines = createInterface({ input: io.stdin, output: nowhere, terminal: true });
  try {
    return (await lines.question("")).trim();
  } finally {
    lines.close();
    io.err("\n");
  }
};

const readFirstLine = async (stdin: Readable): Promise<string> => {
  let text = "";
  for await (const chunk of stdin) {
    text += String(chunk);
    if (text.includes("\n") || text.length > MAX_SECRET_CHARS) break;
  }
  const [line = ""] = text.split("\n");
  if (line.length > MAX_SECRET_CHARS) throw userError("secret_too_long", "What was piped in is too long for a secret.");
  return line.trim();
};
