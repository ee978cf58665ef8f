/** Cuts a stream of bytes into lines without ever holding more than one line of the allowed length. */
export type LineSplitter = {
  /** The lines that this piece completes. Throws `LineTooLong` as soon as one is longer than allowed. */
  readonly push: (piece: Buffer) => Generator<string, void, undefined>;
};

export class LineTooLong extends Error {
  constructor(maxBytes: number) {
    super(`The server wrote a line of more than ${maxBytes} bytes.`);
    this.name = "LineTooLong";
  }
}

const NEWLINE = 0x0a;

export const createLineSplitter = (maxBytes: number): LineSplitter => {
  let pieces: Buffer[] = [];
  let held = 0;
  const hold = (piece: Buffer): void => {
    held += piece.length;
    if (held > maxBytes) throw new LineTooLong(maxBytes);
    if (piece.length > 0) pieces.push(piece);
  };
  const takeLine = (): string => {
    const line = Buffer.concat(pieces, held).toString("utf8");
    pieces = [];
    held = 0;
    return line.endsWith("\r") ? line.slice(0, -1) : line;
  };
  return {
    push: function* (piece) {
      let from = 0;
      for (let end = piece.indexOf(NEWLINE); end !== -1; end = piece.indexOf(NEWLINE, from)) {
        hold(piece.subarray(from, end));
        yield takeLine();
        from = end + 1;
      }
      hold(piece.subarray(from));
    },
  };
};
