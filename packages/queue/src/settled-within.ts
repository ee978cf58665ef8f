/** Resolves when all have settled, or after that time: what is on its way may leave before a connection closes. */
export const settledWithin = async (promises: Iterable<Promise<unknown>>, ms: number): Promise<void> => {
  const late = Promise.withResolvers<void>();
  const timer = setTimeout(late.resolve, ms);
  await Promise.race([Promise.allSettled(promises), late.promise]);
  clearTimeout(timer);
};
