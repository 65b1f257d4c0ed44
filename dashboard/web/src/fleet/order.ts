/** Filters, sorts and groups the fleet. */

import type { Item } from "./store";
import { type Shown, SHOWN, SHOWN_RANK } from "./state";

export type SortKey = "id" | "status" | "seen";

export interface Group {
  /** Empty when nothing is grouped. */
  label: string;
  items: Item[];
}

const naturally = new Intl.Collator("en", { numeric: true }).compare;

/** Devices that show as one of these; all when the set is empty. */
export function filtered(items: readonly Item[], shown: ReadonlySet<Shown>): readonly Item[] {
  return shown.size === 0 ? items : items.filter((item) => shown.has(item.shown));
}

/** In the order asked for; items come in the order of their ids, which stays among equals. */
export function sorted(items: readonly Item[], key: SortKey): readonly Item[] {
  if (key === "status") {
    const ranks: Item[][] = SHOWN.map(() => []);
    for (const item of items) ranks[SHOWN_RANK[item.shown]]!.push(item);
    return ranks.flat();
  }
  if (key === "seen") {
    return [...items].sort((a, b) => (b.entry.observed ?? 0) - (a.entry.observed ?? 0));
  }
  return items;
}

/** The keys of tags such as `site:berlin` that at least two devices have, by name. */
export function tagKeys(devices: Iterable<readonly string[]>): string[] {
  const counts = new Map<string, number>();
  for (const tags of devices) {
    for (const tag of tags) {
      const colon = tag.indexOf(":");
      if (colon > 0) counts.set(tag.slice(0, colon), (counts.get(tag.slice(0, colon)) ?? 0) + 1);
    }
  }
  return [...counts]
    .filter(([, count]) => count > 1)
    .map(([key]) => key)
    .sort();
}

/** By the value of a tag key, in the items' own order; those without it last. */
export function grouped(items: readonly Item[], key: string): Group[] {
  if (!key) return [{ label: "", items: [...items] }];
  const groups = new Map<string, Item[]>();
  const without: Item[] = [];
  const prefix = `${key}:`;
  for (const item of items) {
    const tag = item.entry.device.tags.find((one) => one.startsWith(prefix));
    if (tag === undefined) {
      without.push(item);
      continue;
    }
    const value = tag.slice(prefix.length);
    const group = groups.get(value);
    if (group) group.push(item);
    else groups.set(value, [item]);
  }
  const result = [...groups]
    .sort(([a], [b]) => naturally(a, b))
    .map(([label, list]) => ({ label, items: list }));
  if (without.length > 0) result.push({ label: `no ${key}`, items: without });
  return result;
}
