import { describe, expect, test } from "vitest";

import type { BackupWatch, NodeStatus, RestoreTest, Roles } from "../../src/api";
import {
  judgeArchive,
  judgeRestore,
  judgeSamples,
  judgeWatch,
  repositoriesOf,
} from "../../src/backups";
import { lagWords, pairOf, rightWords } from "../../src/failover";
import { linesOf, type NodeLine } from "../../src/nodes";
import { makeNodes } from "../browser/answers";
import { NOW } from "./devices";

const SECONDS = NOW / 1000;
const HOUR = 3600;

function pair(change: (first: NodeStatus, second: NodeStatus) => void = () => {}): NodeLine[] {
  const lines = linesOf(makeNodes(NOW));
  change(lines[0]!.status!, lines[1]!.status!);
  return lines;
}

describe("failover", () => {
  test("the primary, its right and its epoch are those of the node that leads", () => {
    const found = pairOf(pair());
    expect(found.leads).toEqual({ shown: "ok", label: "vps-01" });
    expect(found.epoch).toBe(7);
    expect(rightWords(found.roles)).toBe("lease of the arbiter, 21\u00a0s left");
    expect(lagWords(found.roles)).toBe("none");
  });

  test("the last failover is the newest promotion, whichever node tells of it", () => {
    const found = pairOf(
      pair((_, second) => {
        second.roles!.events!.push({ time: SECONDS - 60, what: "promoted", epoch: 8, reason: "" });
      }),
    );
    expect(found.lastFailover).toMatchObject({ node: "vps-02", epoch: 8 });
    expect(found.events.map((event) => event.time)).toEqual(
      found.events.map((event) => event.time).sort((a, b) => b - a),
    );
  });

  test("two that take writes, and none, are both critical", () => {
    expect(pairOf(pair((_, second) => (second.leader = true))).leads).toEqual({
      shown: "critical",
      label: "Both take writes",
    });
    expect(pairOf(pair((first) => (first.leader = false))).leads.label).toBe("Nobody takes writes");
  });

  test("while a node cannot be asked, nobody is said to lead or not to", () => {
    const lines = pair((first) => (first.leader = false));
    lines[1] = { ...lines[1]!, status: null, error: "away" };
    expect(pairOf(lines).leads).toEqual({ shown: "offline", label: "Not known" });
  });

  test("asynchronous replication is a warning, with how much the standby lacks", () => {
    const found = pairOf(
      pair((first) => Object.assign(first.roles!, { replication: "async", lag_bytes: 3_145_728 })),
    );
    expect(found.replication).toEqual({ shown: "warning", label: "Asynchronous" });
    expect(lagWords(found.roles)).toBe("3.0 MiB");
  });

  test("a role manager that is silent, and an agent of an older release, break nothing", () => {
    const silent: Roles = { state: "unknown", reason: "the role manager has no fresh facts" };
    const found = pairOf(
      pair((first, second) => {
        first.roles = silent;
        delete second.roles;
      }),
    );
    expect(found.epoch).toBeNull();
    expect(found.lastFailover).toBeNull();
    expect(found.replication.label).toBe("Not known");
    expect(rightWords(found.roles)).toBe("none");
  });
});

describe("backups", () => {
  const watch = (change: Partial<BackupWatch>) => ({
    ...repositoriesOf(pair())[0]!.watch!.of,
    seen: SECONDS,
    ...change,
  });
  const restore = (change: Partial<RestoreTest>) => ({
    ...repositoriesOf(pair())[0]!.test!.of,
    ...change,
  });

  test("the node that leads tells of the repository, the standby of the restore", () => {
    expect(repositoriesOf(pair())[0]!.watch!.node).toBe("vps-01");
    expect(repositoriesOf(pair())[0]!.test!.node).toBe("vps-02");
  });

  test("after a failover the word of the new primary counts, however lately the old one looked", () => {
    const lines = pair((first, second) => {
      second.backups!.watch = { ...first.backups!.watch!, seen: SECONDS - 900 };
      first.leader = false;
      second.leader = true;
    });
    expect(repositoriesOf(lines)[0]!.watch!.node).toBe("vps-02");
  });

  test("a second repository is beside the first one as soon as a node knows of it", () => {
    expect(repositoriesOf(pair()).map((one) => one.number)).toEqual([""]);
    const lines = pair((first, second) => {
      first.backups!.second_watch = { ...first.backups!.watch!, backups: 7 };
      second.backups!.second_restore_test = { ...second.backups!.restore_test!, ok: false };
    });
    const [one, two] = repositoriesOf(lines);
    expect([one!.number, one!.watch!.of.backups, one!.test!.of.ok]).toEqual(["1", 31, true]);
    expect([two!.number, two!.watch!.of.backups, two!.test!.of.ok]).toEqual(["2", 7, false]);
    const untried = pair((first) => {
      first.backups!.second_watch = first.backups!.watch;
    });
    expect(repositoriesOf(untried)[1]!.test).toBeNull();
  });

  test("agents that do not tell of backups leave them unknown", () => {
    const lines = pair((first, second) => {
      delete first.backups;
      delete second.backups;
    });
    expect(repositoriesOf(lines)[0]!.watch).toBeNull();
    expect(judgeWatch(null, SECONDS).label).toBe("No backup yet");
  });

  test.each([
    [{}, "OK"],
    [{ newest: SECONDS - 26 * HOUR }, "Too old"],
    [{ newest: null }, "No backup yet"],
    [{ error: "the bucket refuses the key" }, "Fails"],
    [{ seen: SECONDS - HOUR }, "Not looked at"],
  ])("a repository with %o is judged %s", (change, label) => {
    expect(judgeWatch(watch(change), SECONDS).label).toBe(label);
  });

  test("a log that waits for more than five minutes is behind", () => {
    expect(judgeArchive(watch({ archive_oldest_waiting: SECONDS - 299 })).shown).toBe("ok");
    expect(judgeArchive(watch({ archive_oldest_waiting: SECONDS - 301 })).shown).toBe("critical");
  });

  test.each([
    [{ ended: SECONDS - HOUR }, "Proved good"],
    [{ ended: SECONDS - 51 * HOUR }, "Too long ago"],
    [{ ended: SECONDS - HOUR, ok: false }, "Failed"],
  ])("a restore test with %o is judged %s", (change, label) => {
    expect(judgeRestore(restore(change), SECONDS).label).toBe(label);
  });

  test("a snapshot of the metrics that failed before there was one is none", () => {
    expect(judgeSamples({ ended: 0, bytes: 0, error: "no room" }, SECONDS).label).toBe("None yet");
    expect(judgeSamples({ ended: SECONDS, bytes: 9, error: "no room" }, SECONDS).label).toBe(
      "Fails",
    );
  });
});
