import { lookup as dnsLookup } from "node:dns/promises";

import { err, ok, type AppError, type Result } from "@shaman/kernel";

import { addressKind, addressLiteral } from "./address.ts";
import { outboundFailed, outboundRefused } from "./outbound-error.ts";

/** Gives every address of a name; rejects when there is none. */
export type ResolveHost = (host: string) => Promise<readonly string[]>;

export type GuardOptions = {
  /** Loopback addresses may be reached, also over http. For development, or an operator's own model server. */
  readonly allowLoopback: boolean;
  /** `*.localhost` is 127.0.0.1, as browsers have it. */
  readonly mapLocalhost: boolean;
  /** http to any host; for development. */
  readonly allowHttp: boolean;
  /** Another resolver than the system's. */
  readonly resolve?: ResolveHost;
};

/** An address that passed: connect to one of `addresses` and to no other. */
export type CheckedUrl = { readonly url: URL; readonly addresses: readonly string[] };

export type Guard = {
  /** What can be said without looking up the name: scheme, credentials, port, IP literals. */
  readonly checkSyntax: (url: string | URL) => Result<URL>;
  /** The addresses of a name, all of them allowed. */
  readonly resolveAllowed: (host: string) => Promise<Result<readonly string[]>>;
  readonly isAllowedAddress: (address: string) => boolean;
  /** Everything: the syntax, and every address the name has now. */
  readonly checkUrl: (url: string | URL) => Promise<Result<CheckedUrl>>;
};

const HTTP_PORT = 80;
const HTTPS_PORT = 443;
const FIRST_UNPRIVILEGED_PORT = 1024;

/** Stores and control planes: nothing that speaks HTTP to strangers lives there. */
const FORBIDDEN_PORTS: ReadonlySet<number> = new Set([
  1433, 1521, 2049, 2375, 2376, 2379, 2380, 3306, 3389, 5432, 5672, 5900, 6379, 6443, 9042, 9092, 9200, 9300, 10250,
  11211, 27017,
]);

const systemResolve: ResolveHost = async (host) => {
  const found = await dnsLookup(host, { all: true, verbatim: true });
  return found.map((entry) => entry.address);
};

const withoutTrailingDot = (host: string): string => host.replace(/\.$/, "").toLowerCase();

const isLocalhostName = (host: string): boolean => host === "localhost" || host.endsWith(".localhost");

export const portOf = (url: URL): number =>
  url.port === "" ? (url.protocol === "http:" ? HTTP_PORT : HTTPS_PORT) : Number(url.port);

const isAllowedPort = (port: number): boolean =>
  port === HTTP_PORT || port === HTTPS_PORT || (port >= FIRST_UNPRIVILEGED_PORT && !FORBIDDEN_PORTS.has(port));

const parseUrl = (url: string | URL): URL | undefined => {
  // The parser drops tabs and line ends, so that one text would mean two addresses to two readers.
  if (typeof url === "string" && /[\s\p{Cc}]/u.test(url)) return undefined;
  return URL.parse(String(url)) ?? undefined;
};

const privateAddress = (host: string): AppError =>
  outboundRefused("address", `${host} is not a public address: use one that is reachable from the internet.`);

/** The rules for every address that a tenant can influence. */
export const createGuard = (options: GuardOptions): Guard => {
  const resolve = options.resolve ?? systemResolve;

  const isAllowedAddress = (address: string): boolean => {
    const kind = addressKind(address);
    return kind === "public" || (kind === "loopback" && options.allowLoopback);
  };

  const isLoopbackHost = (host: string): boolean => {
    const literal = addressLiteral(host);
    return literal === undefined ? isLocalhostName(withoutTrailingDot(host)) : addressKind(literal) === "loopback";
  };

  const checkSyntax = (input: string | URL): Result<URL> => {
    const url = parseUrl(input);
    if (!url) {
      return err(outboundRefused("invalid_url", "The address is not a valid URL: write it as https://host/path."));
    }
    const host = url.hostname;
    const mayUseHttp = options.allowHttp || (options.allowLoopback && isLoopbackHost(host));
    if (url.protocol !== "https:" && !(url.protocol === "http:" && mayUseHttp)) {
      return err(outboundRefused("scheme", `${url.protocol}// is not allowed here: use https://.`));
    }
    if (url.username !== "" || url.password !== "") {
      return err(
        outboundRefused(
          "credentials_in_url",
          "The address holds a user name or password: store the credential as a secret instead.",
        ),
      );
    }
    const isLocal = options.allowLoopback && isLoopbackHost(host);
    if (!isLocal && !isAllowedPort(portOf(url))) {
      return err(outboundRefused("port", `Port ${portOf(url)} is not allowed: use 443.`));
    }
    const literal = addressLiteral(host);
    if (literal !== undefined && !isAllowedAddress(literal)) return err(privateAddress(host));
    return ok(url);
  };

  const addressesOf = async (host: string): Promise<readonly string[]> => {
    const literal = addressLiteral(host);
    if (literal !== undefined) return [literal];
    const name = withoutTrailingDot(host);
    return options.mapLocalhost && name.endsWith(".localhost") ? ["127.0.0.1"] : resolve(name);
  };

  const resolveAllowed = async (host: string): Promise<Result<readonly string[]>> => {
    try {
      const addresses = await addressesOf(host);
      if (addresses.length === 0) return err(outboundFailed(host, new Error("no address")));
      // One forbidden address among good ones is refused too: which one is used would be chance.
      return addresses.every(isAllowedAddress) ? ok(addresses) : err(privateAddress(host));
    } catch (cause) {
      return err(outboundFailed(host, cause));
    }
  };

  const checkUrl = async (input: string | URL): Promise<Result<CheckedUrl>> => {
    const url = checkSyntax(input);
    if (!url.ok) return url;
    const addresses = await resolveAllowed(url.value.hostname);
    return addresses.ok ? ok({ url: url.value, addresses: addresses.value }) : addresses;
  };

  return { checkSyntax, resolveAllowed, isAllowedAddress, checkUrl };
};

type LookupCallback = (
  error: NodeJS.ErrnoException | null,
  address: string | { address: string; family: number }[],
  family?: number,
) => void;

const familyOf = (address: string): number => (address.includes(":") ? 6 : 4);

/** Never rejects: what goes wrong is told to the callback. */
const answerLookup = async (
  guard: Guard,
  query: { readonly host: string; readonly all: boolean },
  callback: LookupCallback,
): Promise<void> => {
  const found = await guard.resolveAllowed(query.host);
  if (!found.ok) {
    callback(found.error, "");
    return;
  }
  const entries = found.value.map((address) => ({ address, family: familyOf(address) }));
  const [first] = entries;
  if (query.all || first === undefined) callback(null, entries);
  else callback(null, first.address, first.family);
};

/**
 * The look-up that sockets use: it gives only checked addresses, so that the address connected to is the one that was
 * checked. Node does not call it for IP literals; `checkSyntax` has seen those.
 */
export const guardedLookup =
  (guard: Guard) =>
  (host: string, options: { readonly all?: boolean | undefined }, callback: LookupCallback): void => {
    void answerLookup(guard, { host, all: options.all === true }, callback);
  };
