import type { FleetDevice } from "../../src/api";
import { entryOf, type Shown } from "../../src/fleet/state";
import type { Item } from "../../src/fleet/store";

export const NOW = Date.parse("2026-11-23T12:00:00Z");

export function device(id: string, changes: Partial<FleetDevice> = {}): FleetDevice {
  return {
    device_id: id,
    name: id,
    tags: [],
    status: "ok",
    message: "",
    observed_at: new Date(NOW - 10_000).toISOString(),
    config_version: "v1",
    clock_flagged: false,
    ...changes,
  };
}

export function item(id: string, shown: Shown = "ok", changes: Partial<FleetDevice> = {}): Item {
  return { entry: entryOf(device(id, changes)), shown };
}

export function idsOf(items: readonly Item[]): string[] {
  return items.map((one) => one.entry.device.device_id);
}
