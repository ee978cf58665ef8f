const CONCEALED = Buffer.from("[secret]");
/** Shorter values are names and numbers: taking them out would change what the answer says. */
const MIN_BYTES = 16;

type Concealer = { readonly take: (chunk: Uint8Array) => Buffer; readonly end: () => Buffer };

/** How many bytes at the end may be the beginning of a secret. */
const undecided = (bytes: Buffer, secrets: readonly Buffer[]): number => {
  let longest = 0;
  for (const secret of secrets) {
    const first = secret.subarray(0, 1);
    let at = bytes.indexOf(first, Math.max(0, bytes.length - secret.length + 1));
    while (at !== -1 && !secret.subarray(0, bytes.length - at).equals(bytes.subarray(at))) {
      at = bytes.indexOf(first, at + 1);
    }
    if (at !== -1) longest = Math.max(longest, bytes.length - at);
  }
  return longest;
};

const without = (bytes: Buffer, secret: Buffer): Buffer => {
  let rest = bytes;
  const kept: Buffer[] = [];
  for (let at = rest.indexOf(secret); at !== -1; at = rest.indexOf(secret)) {
    kept.push(rest.subarray(0, at), CONCEALED);
    rest = rest.subarray(at + secret.length);
  }
  return kept.length === 0 ? bytes : Buffer.concat([...kept, rest]);
};

const createConcealer = (secrets: readonly Buffer[]): Concealer => {
  let held: Buffer = Buffer.alloc(0);
  return {
    take: (chunk) => {
      const bytes = secrets.reduce(without, Buffer.concat([held, chunk]));
      const decided = bytes.length - undecided(bytes, secrets);
      held = bytes.subarray(decided);
      return bytes.subarray(0, decided);
    },
    end: () => held,
  };
};

/** What to look for: the value of a header, and what follows its scheme (`Bearer …`). */
const secretsIn = (values: readonly string[]): readonly Buffer[] => {
  const texts = new Set(values.flatMap((value) => [value, value.slice(value.indexOf(" ") + 1)]));
  return [...texts]
    .map((text) => Buffer.from(text))
    .filter(({ length }) => length >= MIN_BYTES)
    .toSorted((one, other) => other.length - one.length);
};

/**
 * The same answer, whose body does not hold the credentials that its request carried: whoever is called with a credential
 * may send it back, and what is answered becomes part of runs. `credentials` are values of headers. Bytes pass on as they
 * come, but for those at the end that may be the beginning of one.
 */
export const conceal = (answer: Response, credentials: readonly string[]): Response => {
  const { body } = answer;
  const secrets = secretsIn(credentials);
  if (body === null || secrets.length === 0) return answer;
  const reader = body.getReader();
  const concealer = createConcealer(secrets);
  const stream = new ReadableStream<Uint8Array>({
    pull: async (controller) => {
      for (;;) {
        const { done, value } = await reader.read();
        const bytes = done ? concealer.end() : concealer.take(value);
        if (bytes.length > 0) controller.enqueue(bytes);
        if (done) controller.close();
        if (done || bytes.length > 0) return;
      }
    },
    cancel: (reason) => reader.cancel(reason),
  });
  const concealed = new Response(stream, answer);
  // A constructed Response has no address, and some clients resolve links against it.
  Object.defineProperty(concealed, "url", { value: answer.url });
  return concealed;
};
