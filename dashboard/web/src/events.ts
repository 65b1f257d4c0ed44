/** Says an event in words. */

import type { FleetEvent, Status } from "./api";
import type { Shown } from "./fleet/state";

export interface EventText {
  /** What the device shows as from then on; null when the event is of another kind. */
  shown: Shown | null;
  text: string;
  detail: string;
}

const STATUSES: readonly unknown[] = ["ok", "warning", "critical"] satisfies Status[];

export function describe(event: FleetEvent): EventText {
  const detail = event.detail;
  if (event.kind === "status_changed" && STATUSES.includes(detail["to"])) {
    const to = detail["to"] as Status;
    const from = detail["from"];
    return {
      shown: to,
      text: typeof from === "string" ? `${from} → ${to}` : to,
      detail: typeof detail["message"] === "string" ? detail["message"] : "",
    };
  }
  return { shown: null, text: sentence(event.kind), detail: pairs(detail) };
}

/** "config_changed" becomes "Config changed". */
function sentence(kind: string): string {
  const words = kind.replaceAll(/[_.]/g, " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** A small document on one line. */
export function pairs(detail: Record<string, unknown>): string {
  return Object.entries(detail)
    .filter(([, value]) => value !== null && value !== "")
    .map(([name, value]) => `${name} ${plain(value)}`)
    .join(", ");
}

function plain(value: unknown): string {
  if (typeof value === "string") return value;
  if (Array.isArray(value)) return value.map(plain).join(" ") || "none";
  if (value !== null && typeof value === "object") {
    return `(${pairs(value as Record<string, unknown>)})`;
  }
  return JSON.stringify(value);
}
