/** Makes of a device's series what the charts draw. */

import type { MetricSeries, Series, Status } from "../api";

/** A device reports once a minute; a bucket may be shorter, and two reports may drift apart. */
const LONGEST_STEP_SECONDS = 150;

/** Seconds without a report after which a line is broken. */
function gapSeconds(series: Series): number {
  return Math.max(series.step_seconds * 1.5, LONGEST_STEP_SECONDS);
}

export interface Columns {
  times: number[];
  /** One list a metric, in the order asked for; null breaks the line. */
  values: (number | null)[][];
}

/**
 * Times and values with a break wherever the device was silent.
 *
 * @param pick what to draw, a metric's list each; a metric that the series lacks is all null.
 */
export function withGaps(
  series: Series,
  pick: readonly ((metrics: Record<string, MetricSeries>) => (number | null)[] | undefined)[],
): Columns {
  const sources = pick.map((one) => one(series.metrics));
  const times: number[] = [];
  const values: (number | null)[][] = sources.map(() => []);
  const longest = gapSeconds(series);
  series.times.forEach((time, index) => {
    const before = series.times[index - 1];
    if (before !== undefined && time - before > longest) {
      times.push(before + series.step_seconds);
      for (const list of values) list.push(null);
    }
    times.push(time);
    values.forEach((list, which) => list.push(sources[which]?.[index] ?? null));
  });
  return { times, values };
}

/** A stretch of time in which a device said the same; null where it was silent. */
export interface Stretch {
  /** Seconds since the epoch. */
  from: number;
  to: number;
  status: Status | null;
}

/** Statuses over the whole range, without holes. */
export function stretches(series: Series): Stretch[] {
  const from = Date.parse(series.from) / 1000;
  const to = Date.parse(series.to) / 1000;
  const longest = gapSeconds(series);
  const result: Stretch[] = [];
  const add = (stretch: Stretch) => {
    if (stretch.to <= stretch.from) return;
    const last = result.at(-1);
    if (last && last.status === stretch.status) last.to = stretch.to;
    else result.push(stretch);
  };
  let end = from;
  series.times.forEach((time, index) => {
    const start = Math.max(time, from);
    if (start > end) add({ from: end, to: start, status: null });
    const next = series.times[index + 1] ?? to;
    const until = next - time > longest ? time + series.step_seconds : next;
    end = Math.min(until, to);
    add({ from: start, to: end, status: series.status[index]! });
  });
  add({ from: end, to, status: null });
  return result;
}

/** How much of the range went by in each status, as parts of one. */
export function shares(list: readonly Stretch[]): Record<Status | "silent", number> {
  const total = list.reduce((sum, one) => sum + one.to - one.from, 0);
  const result = { ok: 0, warning: 0, critical: 0, silent: 0 };
  for (const one of list) result[one.status ?? "silent"] += (one.to - one.from) / (total || 1);
  return result;
}

/** When the device took another configuration, oldest first. */
export function configChanges(series: Series): { at: number; version: string }[] {
  const result: { at: number; version: string }[] = [];
  let current: string | null = null;
  series.config_version.forEach((version, index) => {
    if (version === null || version === current) return;
    if (current !== null) result.push({ at: series.times[index]!, version });
    current = version;
  });
  return result;
}

export interface ChartSpec {
  title: string;
  metrics: string[];
  /** Name of each line when there are several. */
  lines?: string[];
  /** Largest value of the scale; without it the values decide. */
  max?: number;
  /** The scale need not begin at nought. */
  anywhere?: boolean;
}

const KNOWN: ChartSpec[] = [
  { title: "CPU used", metrics: ["cpu_used_percent"], max: 100 },
  { title: "Memory used", metrics: ["memory_used_percent"], max: 100 },
  { title: "Disk used", metrics: ["disk_used_percent"], max: 100 },
  { title: "Temperature", metrics: ["temperature_c"], anywhere: true },
  {
    title: "Load",
    metrics: ["load_1m", "load_5m", "load_15m"],
    lines: ["1 min", "5 min", "15 min"],
  },
  { title: "Reports waiting on the device", metrics: ["queue_waiting"] },
  { title: "Clock offset", metrics: ["clock_offset_seconds"] },
];

/** Charts for what the device sends: those everybody looks at, and the rest by name. */
export function chartsFor(
  metrics: readonly string[],
  title: (name: string) => string,
): { main: ChartSpec[]; more: ChartSpec[] } {
  const sent = new Set(metrics);
  const main = KNOWN.filter((spec) => spec.metrics.some((name) => sent.has(name)));
  const taken = new Set(main.flatMap((spec) => spec.metrics));
  const more = [...sent]
    .filter((name) => !taken.has(name))
    .sort()
    .map((name) => ({ title: title(name), metrics: [name] }));
  return { main, more };
}
