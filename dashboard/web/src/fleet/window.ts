/** Which rows of a long list are in sight. */

export interface Slice {
  first: number;
  /** One past the last. */
  end: number;
}

/**
 * @param scrollTop, height, rowHeight in CSS pixels.
 * @param spare rows beyond either edge, so that a quick scroll shows no hole.
 */
export function inSight(
  total: number,
  rowHeight: number,
  scrollTop: number,
  height: number,
  spare = 8,
): Slice {
  const first = Math.max(0, Math.floor(scrollTop / rowHeight) - spare);
  const end = Math.min(total, Math.ceil((scrollTop + height) / rowHeight) + spare);
  return { first: Math.min(first, end), end };
}
