import type { GitSource } from "@shaman/agents";

const once = <T>(make: (key: string) => Promise<T>): ((key: string) => Promise<T>) => {
  const made = new Map<string, Promise<T>>();
  return (key) => {
    const known = made.get(key) ?? make(key);
    made.set(key, known);
    return known;
  };
};

/**
 * A Git source that asks the real one only once and gives everyone the same: for filling a thousand organizations from
 * one repository that does not change meanwhile, without ten thousand runs of git.
 */
export const readOnce = (git: GitSource): GitSource => {
  const places = new Map<string, Parameters<GitSource["fetch"]>[0]>();
  const placeOf = (url: string): Parameters<GitSource["fetch"]>[0] => {
    const place = places.get(url);
    if (place === undefined) throw new Error(`${url} was not asked for`);
    return place;
  };
  const findTip = once((url) => git.findTip(placeOf(url)));
  const fetch = once(async (url) => {
    const fetched = await git.fetch(placeOf(url));
    if (!fetched.ok) return fetched;
    const { commit, files } = fetched.value;
    const read = once((paths) => files.read(paths.split("\n")));
    const shared = { list: files.list, read: (paths: readonly string[]) => read(paths.join("\n")) };
    return { ok: true as const, value: { commit, files: shared } };
  });
  const remember = (place: Parameters<GitSource["fetch"]>[0]): string => {
    if (!places.has(place.url)) places.set(place.url, place);
    return place.url;
  };
  return {
    findTip: (place) => findTip(remember(place)),
    fetch: (place) => fetch(remember(place)),
    tidy: () => Promise.resolve(),
    forget: () => Promise.resolve(),
  };
};
