/** Who leads the pair, by what right, and how it came to that. */

import type { RoleEvent, Roles } from "./api";
import type { Shown } from "./fleet/state";
import { bytes, span } from "./format";
import type { NodeLine } from "./nodes";

export interface Judged {
  shown: Shown;
  label: string;
}

export interface PairEvent extends RoleEvent {
  node: string;
}

export interface Pair {
  /** Nodes that take writes: one, when all is well. */
  primaries: string[];
  /** What the primary's role manager says; null while nobody leads. */
  roles: Roles | null;
  /** The highest that a node has heard of. */
  epoch: number | null;
  leads: Judged;
  replication: Judged;
  /** The last time that a node became primary. */
  lastFailover: PairEvent | null;
  /** Newest first, of both nodes. */
  events: PairEvent[];
}

const RIGHTS: Record<string, string> = {
  lease: "lease of the arbiter",
  pledge: "pledge of the standby, while the arbiter is away",
  operator: "an operator's word",
  configured: "configuration: there is no arbiter",
};

export function pairOf(lines: readonly NodeLine[]): Pair {
  const known = lines.filter((line) => line.status !== null);
  const leading = known.filter((line) => line.status!.leader);
  const roles = leading.length === 1 ? (leading[0]!.status!.roles ?? null) : null;
  const epochs = known.flatMap((line) => line.status!.roles?.epoch ?? []);
  const events = known
    .flatMap((line) =>
      (line.status!.roles?.events ?? []).map((event) => ({ ...event, node: line.node })),
    )
    .sort((a, b) => b.time - a.time);
  return {
    primaries: leading.map((line) => line.node),
    roles,
    epoch: epochs.length > 0 ? Math.max(...epochs) : null,
    leads: leadsOf(leading, known.length === lines.length),
    replication: replicationOf(roles),
    lastFailover: events.find((event) => event.what === "promoted") ?? null,
    events,
  };
}

function leadsOf(leading: readonly NodeLine[], all: boolean): Judged {
  if (leading.length === 1) return { shown: "ok", label: leading[0]!.node };
  if (leading.length > 1) return { shown: "critical", label: "Both take writes" };
  return all
    ? { shown: "critical", label: "Nobody takes writes" }
    : { shown: "offline", label: "Not known" };
}

function replicationOf(roles: Roles | null): Judged {
  if (roles?.replication === "sync") return { shown: "ok", label: "Synchronous" };
  if (roles?.replication === "async") return { shown: "warning", label: "Asynchronous" };
  return { shown: "offline", label: "Not known" };
}

/** "lease of the arbiter, 21 s left". */
export function rightWords(roles: Roles | null): string {
  if (!roles?.right) return "none";
  const words = RIGHTS[roles.right] ?? roles.right;
  const left = roles.right_seconds;
  return typeof left === "number" ? `${words}, ${span(left).replace(" ", "\u00a0")} left` : words;
}

/** How much of the log the standby lacks. */
export function lagWords(roles: Roles | null): string {
  const lag = roles?.lag_bytes;
  if (typeof lag !== "number") return "not known";
  return lag === 0 ? "none" : bytes(lag);
}

export function eventWords(event: RoleEvent): string {
  return `${event.what.charAt(0).toUpperCase()}${event.what.slice(1)}`;
}
