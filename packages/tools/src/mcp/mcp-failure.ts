import { StreamableHTTPError } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { McpError } from "@modelcontextprotocol/sdk/types.js";
import { AppError, toAppError } from "@shaman/kernel";
import { ZodError } from "zod";

const MAX_MESSAGE_CHARS = 1_000;
const HTTP_NOT_FOUND = 404;
/** JSON-RPC's code, and the two by which the SDK says what happened on this side. */
const METHOD_NOT_FOUND = -32_601;
const CONNECTION_CLOSED = -32_000;
const REQUEST_TIMEOUT = -32_001;

/** The server no longer knows the session (streamable HTTP answers 404): nothing of the request was done. */
export const isSessionLost = (error: unknown): boolean =>
  error instanceof StreamableHTTPError && error.code === HTTP_NOT_FOUND;

export const isConnectionLost = (error: unknown): boolean =>
  isSessionLost(error) || (error instanceof McpError && error.code === CONNECTION_CLOSED);

const shortened = (text: string): string =>
  text.length > MAX_MESSAGE_CHARS ? `${text.slice(0, MAX_MESSAGE_CHARS)}…` : text;

const mcpSentence = (error: McpError): string => {
  // The SDK puts its own words in front of the server's.
  const message = shortened(error.message.replace(/^MCP error -?\d+: /, ""));
  switch (error.code) {
    case REQUEST_TIMEOUT:
      return "The server did not answer in time.";
    case CONNECTION_CLOSED:
      return message === "Connection closed" ? "The server closed the connection." : message;
    default:
      return message;
  }
};

/** What went wrong with a server, as a sentence for a model or a run's events. It may hold words of the server's. */
export const failureSentence = (error: unknown): string => {
  if (error instanceof McpError) return mcpSentence(error);
  if (error instanceof AppError) return error.message;
  if (error instanceof StreamableHTTPError) {
    return error.code !== undefined && error.code > 0
      ? `The server answered with HTTP status ${error.code}.`
      : shortened(error.message);
  }
  if (error instanceof ZodError) return "The server's answer is not what MCP prescribes.";
  return shortened(toAppError(error).message);
};

/** An error of the server's that says that there is no such method. */
export const isMethodNotFound = (error: unknown): boolean =>
  error instanceof McpError && error.code === METHOD_NOT_FOUND;
