import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";

export type OutsideByHand = { readonly cardUrl: string; readonly close: () => Promise<void> };

/** An outside agent of one interface (HTTP+JSON 1.0, no streaming), which does with messages what it is told to. */
export const startOutsideByHand = async (answer: RequestListener): Promise<OutsideByHand> => {
  const server = createServer((request, response) => {
    if (request.url !== "/card.json") {
      answer(request, response);
      return;
    }
    response.setHeader("content-type", "application/json").end(
      JSON.stringify({
        name: "By hand",
        description: "Misbehaves",
        version: "1.0.0",
        capabilities: {},
        defaultInputModes: ["text/plain"],
        defaultOutputModes: ["text/plain"],
        skills: [],
        supportedInterfaces: [{ url: `${origin}/`, protocolBinding: "HTTP+JSON", protocolVersion: "1.0" }],
      }),
    );
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("The system gave no port");
  const origin = `http://127.0.0.1:${address.port}`;
  return {
    cardUrl: `${origin}/card.json`,
    close: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
};
