// The little of WebAssembly's API that loading a module takes; TypeScript has it only in the browser's library.
declare namespace WebAssembly {
  type Exports = Record<string, unknown> & { readonly __wbindgen_start: () => void };
  function instantiate(bytes: Uint8Array, imports: object): Promise<{ instance: { exports: Exports } }>;
}
