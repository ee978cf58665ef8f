import { findHome } from "./home.ts";
import { findPostmaster, stopPostmaster } from "./postmaster.ts";

/** Stops the PostgreSQL that a killed process may have left running on the data of `dir`; `true` when there was one. */
export const stopLeftoverPostgres = async (dir: string): Promise<boolean> => {
  const home = findHome(dir);
  const postmaster = home && findPostmaster(home.data);
  if (postmaster === undefined) return false;
  await stopPostmaster(postmaster.pid);
  return true;
};
