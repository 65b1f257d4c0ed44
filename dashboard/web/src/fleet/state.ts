/** What a device shows as, from its last report and how long ago that was. */

import type { FleetDevice } from "../api";

/** Worst first. A device that is silent says nothing, whatever it said last. */
export const SHOWN = ["critical", "warning", "offline", "new", "ok"] as const;
export type Shown = (typeof SHOWN)[number];

export const SHOWN_LABEL: Record<Shown, string> = {
  critical: "Critical",
  warning: "Warning",
  offline: "Offline",
  new: "Never reported",
  ok: "OK",
};

/** Place in SHOWN. */
export const SHOWN_RANK = Object.fromEntries(SHOWN.map((shown, rank) => [shown, rank])) as Record<
  Shown,
  number
>;

/** A device of the fleet with its times as numbers. */
export interface Entry {
  readonly device: FleetDevice;
  /** Milliseconds since the epoch; null before the first report. */
  readonly observed: number | null;
  /** In lower case, for search. */
  readonly text: { id: string; name: string; tags: string };
}

export function entryOf(device: FleetDevice): Entry {
  return {
    device,
    observed: device.observed_at === null ? null : Date.parse(device.observed_at),
    text: {
      id: device.device_id.toLowerCase(),
      name: device.name.toLowerCase(),
      tags: device.tags.join(" ").toLowerCase(),
    },
  };
}

/**
 * @param asOf the moment up to which the page knows the fleet, in milliseconds since the epoch.
 *   Not the present: while the page is cut off, silence says nothing about the device.
 */
export function shownAs(entry: Entry, asOf: number, onlineWithinMs: number): Shown {
  if (entry.observed === null || entry.device.status === null) return "new";
  if (asOf - entry.observed > onlineWithinMs) return "offline";
  return entry.device.status;
}

export type Counts = Record<Shown, number> & { total: number };

export function emptyCounts(): Counts {
  return { critical: 0, warning: 0, offline: 0, new: 0, ok: 0, total: 0 };
}
