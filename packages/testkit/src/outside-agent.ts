import { fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { fromOutsideAgent, type FromOutsideAgent, type OutsideAgentOptions } from "./outside-agent-protocol.ts";

/** Interfaces of the outside agent, by the name of the card that has only this one. */
export type OutsideInterface = "rpc" | "rest" | "old-rpc" | "old-rest";

export type OutsideAgent = {
  readonly origin: string;
  readonly cardUrl: (name: OutsideInterface) => string;
  /** Everything it told so far. */
  readonly told: readonly FromOutsideAgent[];
  /** The first thing told that fits, at once or when it comes. */
  readonly whenTold: <K extends FromOutsideAgent["kind"]>(
    kind: K,
    fits?: (message: Extract<FromOutsideAgent, { kind: K }>) => boolean,
  ) => Promise<Extract<FromOutsideAgent, { kind: K }>>;
  /** Lets a `hold <name>` go on. */
  readonly release: (name?: string) => void;
  readonly close: () => Promise<void>;
};

/** An agent of another organization, made with the official SDK, in a process of its own on loopback. */
export const startOutsideAgent = async (options: OutsideAgentOptions = {}): Promise<OutsideAgent> => {
  const child = fork(join(import.meta.dirname, "outside-agent-main.ts"), [JSON.stringify(options)], {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  const told: FromOutsideAgent[] = [];
  const waiting = new Set<() => void>();
  child.on("message", (message) => {
    told.push(fromOutsideAgent.parse(message));
    for (const look of waiting) look();
  });
  const exited = once(child, "exit");
  exited.catch(() => undefined);

  const whenTold: OutsideAgent["whenTold"] = (kind, fits = () => true) => {
    const isIt = (message: FromOutsideAgent): message is Extract<FromOutsideAgent, { kind: typeof kind }> =>
      message.kind === kind;
    return new Promise((resolve, reject) => {
      const look = (): void => {
        const found = told.filter(isIt).find(fits);
        if (found === undefined) return;
        waiting.delete(look);
        resolve(found);
      };
      waiting.add(look);
      void exited.then(() => reject(new Error("The outside agent has ended")));
      look();
    });
  };

  const { origin } = await whenTold("ready");
  return {
    origin,
    cardUrl: (name) => `${origin}/cards/${name}.json`,
    told,
    whenTold,
    release: (name = "go") => void child.send(name),
    close: async () => {
      if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
      await exited;
    },
  };
};
