/** The place that stands for the sandbox's working folder, in any entry. */
export const SCRATCH_PLACE = "scratch";

const PLACE = /\{\{\s*([A-Za-z_][A-Za-z0-9_]{0,63})\s*\}\}/g;

/** An argument cut at its places: texts at even positions, names of parameters at odd ones. */
export const cutAtPlaces = (argument: string): readonly string[] => argument.split(PLACE);

/** Names of the parameters that an argument has places for. */
export const placesIn = (argument: string): readonly string[] =>
  cutAtPlaces(argument).filter((_, index) => index % 2 === 1);
