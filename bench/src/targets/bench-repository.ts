import { execFile } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { ANSWER_TEXT, CHUNK_TEXT, STREAM_SHAPES, streamPrompt, type StreamShape } from "./target.ts";

export const AGENT_NAME = "Echo";

const AGENT = `---
name: ${AGENT_NAME}
description: Answers at once, or streams what it is asked to
exposed: true
model: scripted/${AGENT_NAME}.script.yaml
---
Answer: {{prompt}}
`;

const streamTurn = (shape: StreamShape): object => ({
  match: { prompt: streamPrompt(shape) },
  text: Array.from({ length: shape.chunks }, () => CHUNK_TEXT),
  ...(shape.delayMs > 0 && { delayMs: shape.delayMs }),
});

const run = promisify(execFile);

/** Makes a Git repository whose one agent plays a script without any delay of its own. JSON is YAML too. */
export const createBenchRepository = async (folder: string): Promise<void> => {
  await mkdir(folder, { recursive: true });
  const script = { turns: [...STREAM_SHAPES.map(streamTurn), { text: ANSWER_TEXT }] };
  await writeFile(join(folder, `${AGENT_NAME}.md`), AGENT);
  await writeFile(join(folder, `${AGENT_NAME}.script.yaml`), JSON.stringify(script));
  const identity = ["-c", "user.name=bench", "-c", "user.email=bench@shaman.invalid"];
  await run("git", ["init", "--quiet", "--initial-branch=main", folder]);
  await run("git", ["-C", folder, "add", "--all"]);
  await run("git", ["-C", folder, ...identity, "commit", "--quiet", "--message=Agents of the benchmark"]);
};
