import { relative, sep } from "node:path";
import { importBreach, roomOf } from "./import-law.mjs";

/**
 * Our own rules for oxlint. A rule sees one file at a time; paths are relative to the folder oxlint was started in,
 * which is the root of the repository (and of each fixture).
 * @typedef {{ readonly type: string, readonly [key: string]: any }} Node a node of the syntax tree, as ESTree has it
 * @typedef {object} Context
 * @property {string} cwd
 * @property {string} filename
 * @property {(problem: { node: Node, message: string }) => void} report
 * @property {{ getAllComments: () => readonly { loc: { end: { line: number } } }[] }} sourceCode
 */

const pathOf = (/** @type {Context} */ context) => relative(context.cwd, context.filename).split(sep).join("/");

const isTest = (/** @type {string} */ path) => path.endsWith(".test.ts");

/** @param {Node | null | undefined} node */
const textOf = (node) => (node?.type === "Literal" && typeof node.value === "string" ? node.value : undefined);

const importLaw = {
  create: (/** @type {Context} */ context) => {
    const path = pathOf(context);
    const check = (/** @type {Node} */ node, /** @type {Node | null | undefined} */ source) => {
      const specifier = textOf(source);
      const breach = specifier === undefined ? undefined : importBreach(path, specifier);
      if (breach !== undefined) context.report({ node, message: `Import law: ${specifier} ${breach}` });
    };
    return {
      ImportDeclaration: (/** @type {Node} */ node) => check(node, node.source),
      ExportNamedDeclaration: (/** @type {Node} */ node) => check(node, node.source),
      ExportAllDeclaration: (/** @type {Node} */ node) => check(node, node.source),
      ImportExpression: (/** @type {Node} */ node) => check(node, node.source),
      TSImportType: (/** @type {Node} */ node) => check(node, node.source ?? node.argument?.literal ?? node.argument),
    };
  },
};

const ENVIRONMENT_READERS =
  /^(?:[^/]+\/src\/(?:config|main)\.ts|packages\/testkit\/.*|bench\/.*|scripts\/.*|[^/]+\.config\.ts)$/;

/** The environment is read at the edge: an app's config.ts passes it to the readers, tests and scripts may look. */
const environmentAtTheEdge = {
  create: (/** @type {Context} */ context) => {
    const path = pathOf(context);
    if (isTest(path) || ENVIRONMENT_READERS.test(path)) return {};
    const report = (/** @type {Node} */ node) =>
      context.report({ node, message: "Only an app's config.ts reads process.env: export a reader (@shaman/config)." });
    const namesEnv = (/** @type {Node | undefined} */ property) =>
      property?.type !== "Identifier" ? textOf(property) === "env" : property.name === "env";
    return {
      MemberExpression: (/** @type {Node} */ node) => {
        const ofProcess = node.object.type === "Identifier" && node.object.name === "process";
        if (ofProcess && namesEnv(node.property)) report(node);
      },
      VariableDeclarator: (/** @type {Node} */ node) => {
        if (node.init?.type !== "Identifier" || node.init.name !== "process" || node.id.type !== "ObjectPattern") {
          return;
        }
        if (node.id.properties.some((/** @type {Node} */ each) => namesEnv(each.key))) report(node);
      },
      ImportDeclaration: (/** @type {Node} */ node) => {
        if (!/^(node:)?process$/.test(node.source.value)) return;
        if (node.specifiers.some((/** @type {Node} */ each) => namesEnv(each.imported))) report(node);
      },
    };
  },
};

/** A room's index.ts is a decision about every name: `export *` is none. */
const explicitExports = {
  create: (/** @type {Context} */ context) => ({
    ExportAllDeclaration: (/** @type {Node} */ node) =>
      context.report({ node, message: "List what is exported by name instead of `export *`." }),
  }),
};

/** A cast switches the compiler off: where it cannot be avoided, a comment on its line or the line above says why. */
const explainedCast = {
  create: (/** @type {Context} */ context) => {
    const path = pathOf(context);
    if (isTest(path) || roomOf(path) === undefined) return {};
    const report = (/** @type {Node} */ node) => {
      const line = node.typeAnnotation.loc.start.line;
      const comments = context.sourceCode.getAllComments();
      const explained = comments.some(({ loc }) => loc.end.line === line || loc.end.line === node.loc.start.line - 1);
      if (!explained) {
        context.report({ node, message: "Parse instead of casting, or say in a comment why it is safe." });
      }
    };
    const isConst = (/** @type {Node} */ node) =>
      node.typeAnnotation.type === "TSTypeReference" && node.typeAnnotation.typeName.name === "const";
    return {
      TSAsExpression: (/** @type {Node} */ node) => isConst(node) || report(node),
      TSTypeAssertion: report,
    };
  },
};

// oxlint loads a plugin by its default export.
// oxlint-disable-next-line import/no-default-export -- oxlint takes a plugin as a default export
export default {
  meta: { name: "shaman" },
  rules: {
    "import-law": importLaw,
    "environment-at-the-edge": environmentAtTheEdge,
    "explicit-exports": explicitExports,
    "explained-cast": explainedCast,
  },
};
