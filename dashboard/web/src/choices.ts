/** How the operator likes the fleet page; kept in the browser. */

import { reactive, watch } from "vue";

import type { SortKey } from "./fleet/order";

export interface Choices {
  view: "grid" | "list";
  sort: SortKey;
  /** A tag key; empty for none. */
  group: string;
}

const KEY = "overlord.fleet";
const DEFAULTS: Choices = { view: "grid", sort: "id", group: "" };

export const choices = reactive<Choices>(readChoices(stored()));

watch(choices, () => {
  try {
    localStorage.setItem(KEY, JSON.stringify(choices));
  } catch {
    // Storage is refused: the choices hold until the page is loaded again.
  }
});

/** What was kept, as far as it makes sense. */
export function readChoices(text: string | null): Choices {
  let kept: Partial<Record<keyof Choices, unknown>> = {};
  try {
    const value: unknown = JSON.parse(text ?? "{}");
    if (value !== null && typeof value === "object") kept = value;
  } catch {
    // Not ours; the defaults hold.
  }
  return {
    view: kept.view === "list" ? "list" : DEFAULTS.view,
    sort: kept.sort === "status" || kept.sort === "seen" ? kept.sort : DEFAULTS.sort,
    group: typeof kept.group === "string" ? kept.group : DEFAULTS.group,
  };
}

function stored(): string | null {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}
