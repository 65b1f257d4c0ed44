/** Where each device's cell goes on the canvas. Lengths are CSS pixels. */

/** Cells side by side; the first is the device of index `first`. */
export interface Row {
  first: number;
  count: number;
  y: number;
}

export interface SectionLabel {
  text: string;
  y: number;
}

export interface Layout {
  /** Width of a cell with the gap that belongs to it; of wide ones not a whole number. */
  cellWidth: number;
  cellHeight: number;
  columns: number;
  height: number;
  rows: Row[];
  labels: SectionLabel[];
}

export const LABEL_HEIGHT = 24;
export const SMALLEST = 7;
const LARGEST_WIDTH = 76;
/** From this width a name fits, and a cell is wider than high. */
const WIDE = 34;
const ASPECT = 1.9;
const EVEN_BELOW = 20;

/**
 * The largest cells with which all sections fit; at the smallest size the grid grows downwards.
 *
 * @param sizes number of devices of each section.
 * @param labels heading of each section; none when all are empty.
 */
export function layOut(
  sizes: readonly number[],
  labels: readonly string[],
  width: number,
  height: number,
): Layout {
  const titled = labels.some((label) => label !== "");
  const titles = titled ? sizes.length * LABEL_HEIGHT : 0;
  const fits = (cellWidth: number) => {
    const columns = Math.floor(width / cellWidth);
    if (columns < 1) return false;
    const rows = sizes.reduce((sum, size) => sum + Math.ceil(size / columns), 0);
    return rows * heightOf(cellWidth) + titles <= height;
  };
  let cellWidth = LARGEST_WIDTH;
  while (cellWidth > SMALLEST && !fits(cellWidth)) cellWidth -= 1;
  const columns = Math.max(1, Math.floor(width / cellWidth));

  const full = sizes.some((size) => size >= columns);
  const layout: Layout = {
    // What is left of the width goes to the cells of a full row. Small ones stay alike to the
    // pixel, since a pixel more is seen.
    cellWidth: full && cellWidth >= EVEN_BELOW ? Math.max(cellWidth, width / columns) : cellWidth,
    cellHeight: heightOf(cellWidth),
    columns,
    height: 0,
    rows: [],
    labels: [],
  };
  let first = 0;
  sizes.forEach((size, section) => {
    if (titled) {
      layout.labels.push({ text: labels[section] ?? "", y: layout.height });
      layout.height += LABEL_HEIGHT;
    }
    for (let placed = 0; placed < size; placed += layout.columns) {
      const count = Math.min(layout.columns, size - placed);
      layout.rows.push({ first, count, y: layout.height });
      first += count;
      layout.height += layout.cellHeight;
    }
  });
  return layout;
}

function heightOf(cellWidth: number): number {
  return cellWidth < WIDE ? cellWidth : Math.max(22, Math.round(cellWidth / ASPECT));
}

/** Upper left corner of a device's cell; null when there is no such device. */
export function position(layout: Layout, index: number): { x: number; y: number } | null {
  const row = layout.rows[lastWhere(layout.rows, (one) => one.first <= index)];
  if (!row || index >= row.first + row.count) return null;
  return { x: left(layout, index - row.first), y: row.y };
}

/** Left edge of a column, on a whole pixel. */
export function left(layout: Layout, column: number): number {
  return Math.round(column * layout.cellWidth);
}

/** Index of the device under a point; null for none. */
export function hit(layout: Layout, x: number, y: number): number | null {
  const row = layout.rows[lastWhere(layout.rows, (one) => one.y <= y)];
  // Half a pixel, since edges are rounded.
  const column = Math.floor((x + 0.5) / layout.cellWidth);
  if (!row || y >= row.y + layout.cellHeight || column < 0 || column >= row.count) return null;
  return row.first + column;
}

export type Move = "left" | "right" | "up" | "down" | "first" | "last" | "pageup" | "pagedown";

const ROWS_OF: Partial<Record<Move, number>> = { up: -1, down: 1, pageup: -10, pagedown: 10 };

/** Index after a key press; it stays within the grid. */
export function move(layout: Layout, index: number, way: Move): number {
  const end = layout.rows.at(-1);
  if (!end) return 0;
  const last = end.first + end.count - 1;
  if (way === "first") return 0;
  if (way === "last") return last;
  if (way === "left") return Math.max(0, index - 1);
  if (way === "right") return Math.min(last, index + 1);
  const from = lastWhere(layout.rows, (one) => one.first <= index);
  const to = Math.max(0, Math.min(layout.rows.length - 1, from + (ROWS_OF[way] ?? 0)));
  const target = layout.rows[to]!;
  const column = index - layout.rows[from]!.first;
  return target.first + Math.min(column, target.count - 1);
}

/** Index of the last row that passes a test which the first rows pass and the others do not. */
function lastWhere(rows: readonly Row[], test: (row: Row) => boolean): number {
  let low = -1;
  let high = rows.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (test(rows[middle]!)) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** What differs between names that begin alike: `pi-0042` and `pi-0007` become `0042`, `0007`. */
export function shortNames(names: readonly string[]): string[] {
  let prefix = names.length > 1 ? names[0]! : "";
  for (const name of names) {
    while (!name.startsWith(prefix)) prefix = prefix.slice(0, -1);
    if (!prefix) break;
  }
  // Up to a separator, so that a number is not cut in two.
  const cut = Math.max(prefix.lastIndexOf("-"), prefix.lastIndexOf(".")) + 1;
  return names.map((name) => name.slice(cut) || name);
}
