const MAX_COMPARED_CHARS = 64;

/** Edit distance with transpositions of neighbours (optimal string alignment), over one row pair at a time. */
const distance = (a: string, b: string): number => {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      let best = Math.min((last[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (last[j - 1] ?? 0) + same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        best = Math.min(best, (beforeLast[j - 2] ?? 0) + 1);
      }
      row.push(best);
    }
    beforeLast = last;
    last = row;
  }
  return last[b.length] ?? 0;
};

/** Up to three of `known` that someone who wrote `name` may have meant, nearest first. Upper and lower case count as equal. */
export const findNearNames = (name: string, known: Iterable<string>): readonly string[] => {
  if (name.length > MAX_COMPARED_CHARS) return [];
  const wanted = name.toLowerCase();
  const allowed = Math.max(1, Math.floor(wanted.length / 3));
  const near: { readonly candidate: string; readonly away: number }[] = [];
  for (const candidate of known) {
    if (candidate === name || Math.abs(candidate.length - name.length) > allowed) continue;
    const away = distance(wanted, candidate.toLowerCase());
    if (away <= allowed) near.push({ candidate, away });
  }
  return near
    .toSorted((a, b) => a.away - b.away || (a.candidate < b.candidate ? -1 : 1))
    .slice(0, 3)
    .map(({ candidate }) => candidate);
};

/** ` Did you mean X or Y?` with its leading space, or nothing. */
export const didYouMean = (name: string, known: Iterable<string>): string => {
  const near = findNearNames(name, known);
  return near.length === 0 ? "" : ` Did you mean ${near.join(" or ")}?`;
};
