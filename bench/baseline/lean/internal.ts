import fastify from "fastify";
import { z } from "zod";
import { readLeanEnvironment } from "./environment.ts";
import { importTokenKey, verifyToken } from "./token.ts";

/** The internal server of the lean path: checks the token and answers at once, as a zero-latency model would. */
const environment = readLeanEnvironment(process.env);
const key = await importTokenKey(environment.jwtKey);
const requestSchema = z.object({ prompt: z.string() });

const app = fastify({ logger: false, keepAliveTimeout: 120_000 });

app.post("/run", async (request, reply) => {
  const token = request.headers.authorization?.slice("Bearer ".length) ?? "";
  try {
    await verifyToken(key, token);
  } catch {
    return reply.code(401).send();
  }
  const { prompt } = requestSchema.parse(request.body);
  reply.header("content-type", "application/json");
  return reply.send(JSON.stringify({ answer: `Done: ${prompt}` }));
});

const address = await app.listen({ host: "127.0.0.1", port: environment.port });
console.log(`ready ${address}`);
