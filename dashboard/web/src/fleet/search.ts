/** Finds devices while the operator types. */

import type { Entry } from "./state";

/** Lower is better; null does not match. Every word must be found somewhere. */
function score(entry: Entry, words: readonly string[]): number | null {
  const { id, name, tags } = entry.text;
  let total = 0;
  for (const word of words) {
    if (id === word || name === word) continue;
    if (id.startsWith(word)) total += 1;
    else if (name.startsWith(word)) total += 2;
    else if (id.includes(word)) total += 3;
    else if (name.includes(word)) total += 4;
    else if (tags.includes(word)) total += 5;
    else return null;
  }
  return total;
}

/** The best matches, and how many there are in all. Equal ones stay in the order of `entries`. */
export function search(
  entries: Iterable<Entry>,
  query: string,
  limit: number,
): { found: Entry[]; total: number } {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return { found: [], total: 0 };
  const buckets: Entry[][] = [];
  let total = 0;
  for (const entry of entries) {
    const points = score(entry, words);
    if (points === null) continue;
    total += 1;
    const bucket = (buckets[points] ??= []);
    if (bucket.length < limit) bucket.push(entry);
  }
  return { found: buckets.flat().slice(0, limit), total };
}
