/** The fleet as the page knows it. Plain maps, and one number that changes when they do. */

import { shallowRef, triggerRef } from "vue";

import type { FleetDevice, FleetEvent, FleetSnapshot } from "../api";
import { type Counts, emptyCounts, type Entry, entryOf, type Shown, shownAs } from "./state";

/** Events kept for "what changed last". */
export const KEPT_EVENTS = 200;

/** One device with what it shows as at this moment. */
export interface Item {
  readonly entry: Entry;
  readonly shown: Shown;
}

export interface View {
  readonly items: readonly Item[];
  readonly counts: Counts;
}

const naturally = new Intl.Collator("en", { numeric: true }).compare;

export class FleetStore {
  private entries = new Map<string, Entry>();
  /** In natural order of the ids; null when a device has come since it was made. */
  private ordered: string[] | null = null;
  private onlineWithinMs = 180_000;
  private recent: FleetEvent[] = [];
  private loadedOnce = false;

  /** Changes whenever the fleet does; components depend on it through `view` and `events`. */
  private readonly changed = shallowRef(0);
  /** As `changed`, but only when a device comes, goes or is tagged. */
  private readonly tagsChanged = shallowRef(0);
  private readonly eventsChanged = shallowRef(0);

  /** Whether the fleet has been loaded at all. */
  get loaded(): boolean {
    void this.changed.value;
    return this.loadedOnce;
  }

  get size(): number {
    void this.changed.value;
    return this.entries.size;
  }

  get(deviceId: string): Entry | undefined {
    void this.changed.value;
    return this.entries.get(deviceId);
  }

  /** In natural order of the ids. */
  *all(): Generator<Entry> {
    void this.changed.value;
    // Ordering ten thousand ids takes 30 ms, and devices seldom come or go.
    this.ordered ??= [...this.entries.keys()].sort(naturally);
    for (const id of this.ordered) yield this.entries.get(id)!;
  }

  /** The tags of every device. Reports leave them as they are, so this seldom changes. */
  *tags(): Generator<readonly string[]> {
    void this.tagsChanged.value;
    for (const entry of this.entries.values()) yield entry.device.tags;
  }

  /** Newest first. */
  get events(): readonly FleetEvent[] {
    void this.eventsChanged.value;
    return this.recent;
  }

  /**
   * Take the whole fleet; a device that the snapshot lacks is gone.
   *
   * @param touched ids of which the stream has spoken since the snapshot was asked for: there the
   *   stream is right, be it that the device has changed, come or gone.
   */
  load(snapshot: FleetSnapshot, touched: ReadonlySet<string> = new Set()): void {
    const next = new Map<string, Entry>();
    for (const device of snapshot.devices) {
      const id = device.device_id;
      if (touched.has(id)) continue;
      const fresh = entryOf(device);
      const known = this.entries.get(id);
      next.set(id, known && isNewer(known, fresh) ? known : fresh);
    }
    for (const id of touched) {
      const known = this.entries.get(id);
      if (known) next.set(id, known);
    }
    this.entries = next;
    this.ordered = null;
    this.onlineWithinMs = snapshot.online_within_seconds * 1000;
    this.loadedOnce = true;
    triggerRef(this.tagsChanged);
    triggerRef(this.changed);
  }

  /** Take what the stream says about some devices; older than what is known is passed over. */
  merge(devices: readonly FleetDevice[]): void {
    let retagged = false;
    for (const device of devices) {
      const fresh = entryOf(device);
      const known = this.entries.get(device.device_id);
      if (!known) this.ordered = null;
      retagged ||= known?.text.tags !== fresh.text.tags;
      if (!known || !isNewer(known, fresh)) this.entries.set(device.device_id, fresh);
    }
    if (retagged) triggerRef(this.tagsChanged);
    triggerRef(this.changed);
  }

  remove(deviceId: string): void {
    if (!this.entries.delete(deviceId)) return;
    this.ordered = null;
    triggerRef(this.tagsChanged);
    triggerRef(this.changed);
  }

  /** Take events in any order; each counts once. */
  addEvents(events: readonly FleetEvent[]): void {
    const known = new Set(this.recent.map((event) => event.id));
    const fresh = events.filter((event) => !known.has(event.id));
    if (fresh.length === 0) return;
    this.recent = [...fresh, ...this.recent]
      .sort((a, b) => Date.parse(b.at) - Date.parse(a.at) || b.id - a.id)
      .slice(0, KEPT_EVENTS);
    triggerRef(this.eventsChanged);
  }

  clear(): void {
    this.entries = new Map();
    this.ordered = null;
    this.recent = [];
    this.loadedOnce = false;
    triggerRef(this.tagsChanged);
    triggerRef(this.changed);
    triggerRef(this.eventsChanged);
  }

  shown(entry: Entry, asOf: number): Shown {
    return shownAs(entry, asOf, this.onlineWithinMs);
  }

  /** Every device in natural order of the ids, and how many show as what. */
  view(asOf: number): View {
    const counts = emptyCounts();
    const items: Item[] = [];
    for (const entry of this.all()) {
      const shown = this.shown(entry, asOf);
      counts[shown] += 1;
      counts.total += 1;
      items.push({ entry, shown });
    }
    return { items, counts };
  }
}

function isNewer(known: Entry, fresh: Entry): boolean {
  return (known.observed ?? -Infinity) > (fresh.observed ?? -Infinity);
}
