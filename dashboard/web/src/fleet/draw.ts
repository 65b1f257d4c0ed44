/** Paints the grid of devices onto a canvas. */

import { type Layout, left, position } from "./layout";
import { type Shown, SHOWN } from "./state";
import type { Item } from "./store";

/** Read from the stylesheet, so that the grid follows the theme. */
export interface Palette {
  fill: Record<Shown, string>;
  text: Record<Shown, string>;
  outline: string;
  label: string;
  focus: string;
  font: string;
}

export function readPalette(element: Element): Palette {
  const style = getComputedStyle(element);
  const value = (name: string) => style.getPropertyValue(name).trim();
  const of = (suffix: string) =>
    Object.fromEntries(SHOWN.map((shown) => [shown, value(`--cell-${shown}${suffix}`)])) as Record<
      Shown,
      string
    >;
  return {
    fill: of(""),
    text: of("-text"),
    outline: value("--cell-offline-line"),
    label: value("--muted"),
    focus: value("--cell-focus"),
    font: style.fontFamily,
  };
}

/** Width of a cell, in CSS pixels, from which its device's name is written into it. */
export const NAMED_FROM = 24;

/**
 * Paint everything anew; ten thousand cells take a few milliseconds.
 *
 * @param names what stands in each cell when it is wide enough.
 */
export function draw(
  context: CanvasRenderingContext2D,
  layout: Layout,
  items: readonly Item[],
  names: readonly string[],
  palette: Palette,
): void {
  const { cellWidth, cellHeight } = layout;
  const gap = gapOf(layout);
  const width = Math.floor(cellWidth) - gap;
  const height = cellHeight - gap;

  const places: Record<Shown, { x: number; y: number }[]> = {
    critical: [],
    warning: [],
    offline: [],
    new: [],
    ok: [],
  };
  for (const row of layout.rows) {
    for (let column = 0; column < row.count; column += 1) {
      places[items[row.first + column]!.shown].push({
        x: left(layout, column),
        y: row.y,
      });
    }
  }
  for (const shown of SHOWN) {
    context.fillStyle = palette.fill[shown];
    context.beginPath();
    for (const { x, y } of places[shown]) context.rect(x, y, width, height);
    context.fill();
  }

  // Shapes as well as colours: hollow is silent, a cut corner is a warning, a bar is critical.
  const line = cellWidth < 12 ? 1 : 1.5;
  context.strokeStyle = palette.outline;
  context.lineWidth = line;
  context.beginPath();
  for (const { x, y } of places.offline) {
    context.rect(x + line / 2, y + line / 2, width - line, height - line);
  }
  context.stroke();
  if (cellWidth >= 10) {
    const notch = Math.max(4, Math.round(height / 4));
    context.fillStyle = palette.text.warning;
    context.beginPath();
    for (const { x, y } of places.warning) {
      context.moveTo(x + width - notch, y);
      context.lineTo(x + width, y);
      context.lineTo(x + width, y + notch);
    }
    context.fill();
    // Off the edge: on a light page it would only make the cell look narrower.
    const bar = Math.max(2, Math.round(width / 16));
    const inset = Math.max(2, Math.round(height / 8));
    context.fillStyle = palette.text.critical;
    context.beginPath();
    for (const { x, y } of places.critical) {
      context.rect(x + inset, y + inset, bar, height - 2 * inset);
    }
    context.fill();
  }

  if (layout.labels.length > 0) {
    context.fillStyle = palette.label;
    context.font = `600 12px ${palette.font}`;
    context.textAlign = "left";
    context.textBaseline = "alphabetic";
    for (const label of layout.labels) context.fillText(label.text, 0, label.y + 16);
  }
  if (cellWidth >= NAMED_FROM) drawNames(context, layout, items, names, palette, width, height);
}

function drawNames(
  context: CanvasRenderingContext2D,
  layout: Layout,
  items: readonly Item[],
  names: readonly string[],
  palette: Palette,
  width: number,
  height: number,
): void {
  const size = layout.cellWidth >= 52 ? 12 : layout.cellWidth >= 34 ? 11 : 9;
  context.font = `${size}px ${palette.font}`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  const room = width - 4;
  // Nearly all names are as wide as this one; only a longer one is measured by itself.
  const perLetter = context.measureText("0").width;
  const letters = Math.floor(room / perLetter);
  for (const row of layout.rows) {
    for (let column = 0; column < row.count; column += 1) {
      const index = row.first + column;
      const name = names[index]!;
      // The end of a name tells more devices apart than its beginning.
      const text = name.length <= letters ? name : `…${name.slice(1 - letters)}`;
      context.fillStyle = palette.text[items[index]!.shown];
      context.fillText(text, left(layout, column) + width / 2, row.y + height / 2 + 0.5);
    }
  }
}

function gapOf(layout: Layout): number {
  return layout.cellWidth < 12 ? 1 : 2;
}

/** The frame around the device that the keyboard or the pointer is on. */
export function drawFocus(
  context: CanvasRenderingContext2D,
  layout: Layout,
  index: number,
  palette: Palette,
): void {
  const place = position(layout, index);
  if (!place) return;
  const gap = gapOf(layout);
  context.strokeStyle = palette.focus;
  context.lineWidth = 2;
  context.strokeRect(
    place.x - 0.5,
    place.y - 0.5,
    Math.floor(layout.cellWidth) - gap + 1,
    layout.cellHeight - gap + 1,
  );
}
