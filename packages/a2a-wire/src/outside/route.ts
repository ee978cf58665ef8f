import type { OpenedExternalAgent, SupportedInterface } from "@shaman/external";
import { AppError } from "@shaman/kernel";
import { dialectOf } from "./dialect.ts";
import { saysNothingIsThere } from "./external-error.ts";
import type { Wire } from "./wire-request.ts";

/** The interface in use, and how to speak to it. */
type Way = { readonly interface: SupportedInterface; readonly wire: Wire };

/** An agent's interfaces in the order of its card, one of them in use. */
export type Route = {
  readonly way: () => Way;
  /**
   * Goes over to the next interface (A2A 1.0.1 §5.2), if the error says that the one in use cannot be reached or does not
   * speak its binding, so that certainly nothing came of the request. False: the error stands.
   */
  readonly fallBack: (thrown: unknown) => boolean;
  /** Goes back to the interface that the card prefers. */
  readonly startOver: () => void;
};

/** Begins with the interface that the card prefers (§8.3.2). */
export const createRoute = (
  agent: OpenedExternalAgent,
  about: Pick<Wire, "outbound" | "limits" | "extraHeaders">,
): Route => {
  const wayBy = (one: SupportedInterface): Way => ({
    interface: one,
    wire: { ...about, agent, dialect: dialectOf(one, agent.card.requiredExtensions) },
  });
  let others = [...agent.fallbacks];
  let way = wayBy(agent.interface);
  return {
    way: () => way,
    fallBack: (thrown) => {
      if (!(thrown instanceof AppError) || !saysNothingIsThere(thrown)) return false;
      const next = others.shift();
      if (next === undefined) return false;
      way = wayBy(next);
      return true;
    },
    startOver: () => {
      others = [...agent.fallbacks];
      way = wayBy(agent.interface);
    },
  };
};

/** Asks by the interface in use, and by the next ones as long as nothing is there. For requests that may be repeated. */
export const byAnyWay = async <T>(route: Route, ask: (way: Way) => Promise<T>): Promise<T> => {
  for (;;) {
    try {
      return await ask(route.way());
    } catch (thrown) {
      if (!route.fallBack(thrown)) throw thrown;
    }
  }
};
