import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import type { CallToolResult } from "@modelcontextprotocol/sdk/types.js";
import { z } from "zod";

export type ExampleTools = { readonly url: string; readonly close: () => Promise<void> };

const order = z.string().regex(/^[A-Z]-\d{4}$/, "must be an order such as A-1001");

/** What the shop has in its warehouses, by the first letter of an order. */
const stockOf = (id: string): string =>
  id.startsWith("B")
    ? `Order ${id}: 1 of 1 Acme Barista One in stock; water filters short: 0 of 2, more on Thursday.`
    : `Order ${id}: everything in stock: 1 Acme Barista One, 2 House blend.`;

const textResult = (text: string): CallToolResult => ({ content: [{ type: "text", text }] });

/** The tools of the shop's own systems. Charging twice is charging twice, so that one is not marked as safe to repeat. */
const shop = (): McpServer => {
  const server = new McpServer({ name: "acme-shop", version: "1.0.0" });
  server.registerTool(
    "check_stock",
    {
      description: "Says for each item of an order how many pieces are in stock.",
      inputSchema: { order },
      annotations: { readOnlyHint: true },
    },
    (input) => textResult(stockOf(input.order)),
  );
  server.registerTool(
    "charge_card",
    {
      description: "Charges the card on file for an order, in EUR.",
      inputSchema: { order, amountEur: z.number().positive().max(100_000) },
      annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: false },
    },
    (input) => textResult(`Charged ${input.amountEur.toFixed(2)} EUR for order ${input.order}.`),
  );
  return server;
};

const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
  if (request.url !== "/mcp" || request.method !== "POST") {
    response.writeHead(request.url === "/mcp" ? 405 : 404).end();
    return;
  }
  // Nothing is kept between requests, so each has a server of its own.
  const transport = new StreamableHTTPServerTransport({ enableJsonResponse: true });
  const server = shop();
  response.once("close", () => void server.close());
  await server.connect(transport);
  await transport.handleRequest(request, response);
};

/**
 * The order desk's tools as an MCP server over streamable HTTP, on loopback: what a company's own systems would be. It
 * lives in the process of `npm start`.
 */
export const startExampleTools = async (port: number): Promise<ExampleTools> => {
  const server = createServer((request, response) => {
    answer(request, response).catch(() => response.destroy());
  });
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${port}/mcp`,
    close: async () => {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
};
