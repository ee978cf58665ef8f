import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";

export type Metrics = {
  readonly counter: <L extends string>(name: string, help: string, labels: readonly L[]) => Counter<L>;
  readonly gauge: (name: string, help: string, read: () => number) => Gauge;
  readonly histogram: <L extends string>(name: string, help: string, labels: readonly L[]) => Histogram<L>;
  /** All metrics in Prometheus' text format. */
  readonly render: () => Promise<string>;
};

/** The process's metrics, with Node's own. Durations are in seconds, as Prometheus wants them. */
export const createMetrics = (): Metrics => {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  return {
    counter: (name, help, labels) => new Counter({ name, help, labelNames: labels, registers: [registry] }),
    gauge: (name, help, read) =>
      new Gauge({
        name,
        help,
        registers: [registry],
        collect() {
          this.set(read());
        },
      }),
    histogram: (name, help, labels) =>
      new Histogram({
        name,
        help,
        labelNames: labels,
        buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300],
        registers: [registry],
      }),
    render: () => registry.metrics(),
  };
};
