/** Whether the backups are as they should be. The limits are those of stack/prometheus/rules. */

import type { Backups, BackupWatch, RestoreTest, SamplesBackup } from "./api";
import type { Judged } from "./failover";
import type { NodeLine } from "./nodes";

const DAY_AND_AN_HOUR = 25 * 3600;
const TWO_NIGHTS = 50 * 3600;
const SEEN_SECONDS = 1800;
const ARCHIVE_SECONDS = 300;

/** Something of the backups, and the node that tells of it. */
export interface Told<T> {
  node: string;
  of: T;
}

/** A repository of the database's backups. */
export interface Repository {
  /** "" where there is one alone. */
  number: "" | "1" | "2";
  watch: Told<BackupWatch> | null;
  test: Told<RestoreTest> | null;
}

/** The first one, and the second one where a node knows of it. */
export function repositoriesOf(lines: readonly NodeLine[]): Repository[] {
  const watch = watchOf(lines);
  const test = newest(lines, (backups) => backups.restore_test, "ended");
  const secondWatch = watchOf(lines, "second_watch");
  const secondTest = newest(lines, (backups) => backups.second_restore_test, "ended");
  if (!secondWatch && !secondTest) return [{ number: "", watch, test }];
  return [
    { number: "1", watch, test },
    { number: "2", watch: secondWatch, test: secondTest },
  ];
}

/** By the node that leads, which looks after the backups; else by whoever looked last. */
function watchOf(
  lines: readonly NodeLine[],
  which: "watch" | "second_watch" = "watch",
): Told<BackupWatch> | null {
  const leader = lines.find((line) => line.status?.leader);
  const of = leader?.status?.backups?.[which];
  if (leader && of) return { node: leader.node, of };
  return newest(lines, (backups) => backups[which], "seen");
}

export function samplesOf(lines: readonly NodeLine[]): Told<SamplesBackup> | null {
  return newest(lines, (backups) => backups.samples, "ended");
}

function newest<K extends string, T extends Record<K, number>>(
  lines: readonly NodeLine[],
  pick: (backups: Backups) => T | null | undefined,
  time: K,
): Told<T> | null {
  const told = lines.flatMap((line) => {
    const of = line.status?.backups ? pick(line.status.backups) : null;
    return of ? [{ node: line.node, of }] : [];
  });
  return told.sort((a, b) => b.of[time] - a.of[time])[0] ?? null;
}

/** @param now in seconds since the epoch. */
export function judgeWatch(watch: BackupWatch | null, now: number): Judged {
  if (!watch) return { shown: "offline", label: "No backup yet" };
  if (watch.error) return { shown: "critical", label: "Fails" };
  if (now - watch.seen > SEEN_SECONDS) return { shown: "warning", label: "Not looked at" };
  if (watch.newest === null) return { shown: "critical", label: "No backup yet" };
  if (now - watch.newest > DAY_AND_AN_HOUR) return { shown: "critical", label: "Too old" };
  return { shown: "ok", label: "OK" };
}

/** Whether the log reaches the bucket; `watch` as it was seen last. */
export function judgeArchive(watch: BackupWatch | null): Judged {
  if (!watch) return { shown: "offline", label: "Not known" };
  const behind =
    watch.archive_oldest_waiting === null ? 0 : watch.seen - watch.archive_oldest_waiting;
  return behind > ARCHIVE_SECONDS
    ? { shown: "critical", label: "Behind" }
    : { shown: "ok", label: "OK" };
}

/** @param now in seconds since the epoch. */
export function judgeRestore(test: RestoreTest | null, now: number): Judged {
  if (!test) return { shown: "warning", label: "Never tried" };
  if (!test.ok) return { shown: "critical", label: "Failed" };
  if (now - test.ended > TWO_NIGHTS) return { shown: "warning", label: "Too long ago" };
  return { shown: "ok", label: "Proved good" };
}

/** @param now in seconds since the epoch. */
export function judgeSamples(samples: SamplesBackup | null, now: number): Judged {
  if (!samples || samples.ended === 0) return { shown: "warning", label: "None yet" };
  if (samples.error) return { shown: "warning", label: "Fails" };
  if (now - samples.ended > TWO_NIGHTS) return { shown: "warning", label: "Too old" };
  return { shown: "ok", label: "OK" };
}
