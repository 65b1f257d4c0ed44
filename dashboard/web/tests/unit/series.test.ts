import { describe, expect, test } from "vitest";

import type { Series, Status } from "../../src/api";
import { chartsFor, configChanges, shares, stretches, withGaps } from "../../src/charts/series";
import { metricTitle } from "../../src/format";

const START = Date.parse("2026-11-23T12:00:00Z") / 1000;

function series(points: [minute: number, status: Status, config?: string][], minutes = 60): Series {
  const value = points.map((_, index) => index);
  return {
    from: new Date(START * 1000).toISOString(),
    to: new Date((START + minutes * 60) * 1000).toISOString(),
    step_seconds: 60,
    times: points.map(([minute]) => START + minute * 60),
    status: points.map(([, status]) => status),
    config_version: points.map(([, , config]) => config ?? null),
    metrics: { load_1m: { avg: value, min: value, max: value } },
  };
}

describe("the lines of a chart", () => {
  test("break where the device was silent, and nowhere else", () => {
    const columns = withGaps(
      series([
        [0, "ok"],
        [1, "ok"],
        [20, "ok"],
      ]),
      [(all) => all["load_1m"]?.avg],
    );
    expect(columns.values).toEqual([[0, 1, null, 2]]);
    expect(columns.times).toHaveLength(4);
    expect([...columns.times].sort((a, b) => a - b)).toEqual(columns.times);
  });

  test("do not break at one report that was late", () => {
    const columns = withGaps(
      series([
        [0, "ok"],
        [2, "ok"],
      ]),
      [(all) => all["load_1m"]?.avg],
    );
    expect(columns.values).toEqual([[0, 1]]);
  });

  test("are empty for a value that was not sent", () => {
    expect(withGaps(series([[0, "ok"]]), [(all) => all["other"]?.avg]).values).toEqual([[null]]);
  });
});

describe("the status strip", () => {
  test("covers the whole time without holes, silence too", () => {
    const list = stretches(
      series([
        [10, "ok"],
        [11, "ok"],
        [12, "critical"],
        [40, "ok"],
      ]),
    );
    expect(list.map((one) => one.status)).toEqual([null, "ok", "critical", null, "ok", null]);
    expect(list[0]!.from).toBe(START);
    expect(list.at(-1)!.to).toBe(START + 3600);
    list.slice(1).forEach((one, index) => expect(one.from).toBe(list[index]!.to));
  });

  test("of no report is one silence", () => {
    expect(stretches(series([]))).toEqual([{ from: START, to: START + 3600, status: null }]);
  });

  test("says how much of the time each status had", () => {
    const part = shares(
      stretches(
        series(
          [
            [0, "ok"],
            [1, "ok"],
            [2, "warning"],
          ],
          4,
        ),
      ),
    );
    expect(part.ok).toBeCloseTo(0.5);
    expect(part.warning).toBeCloseTo(0.5);
    expect(part.silent).toBe(0);
    expect(Object.values(part).reduce((sum, one) => sum + one)).toBeCloseTo(1);
  });

  test("marks a new configuration, but not the first that is seen", () => {
    const list = configChanges(
      series([
        [0, "ok", "a"],
        [1, "ok"],
        [2, "ok", "b"],
        [3, "ok", "b"],
      ]),
    );
    expect(list).toEqual([{ at: START + 120, version: "b" }]);
  });
});

test("every value that a device sends is in exactly one chart", () => {
  const sent = ["load_1m", "load_5m", "disk_used_percent", "boot_count", "custom_thing"];
  const { main, more } = chartsFor(sent, metricTitle);
  expect(main.map((spec) => spec.title)).toEqual(["Disk used", "Load"]);
  expect(more.map((spec) => spec.title)).toEqual(["Boot count", "Custom thing"]);
});
