import type { FastifyInstance } from "fastify";

const IDLE_CHECK_MS = 50;

/**
 * Takes no new connection, lets the requests that are under way be answered, and cuts what is left after `graceMs`.
 * A connection that was busy is closed as soon as it is idle.
 */
export const closeGracefully = async (app: FastifyInstance, graceMs: number): Promise<void> => {
  const idle = setInterval(() => app.server.closeIdleConnections(), IDLE_CHECK_MS);
  const cut = setTimeout(() => app.server.closeAllConnections(), graceMs);
  await app.close();
  clearInterval(idle);
  clearTimeout(cut);
};
