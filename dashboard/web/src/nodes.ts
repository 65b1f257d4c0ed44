/** What a node's own document says about each service, in the operator's words. */

import type { NodeReport, NodeStatus } from "./api";
import type { Shown } from "./fleet/state";

export interface ServiceLine {
  name: string;
  shown: Shown;
  text: string;
  image: string;
}

/** Those in trouble first, then by name. */
export function servicesOf(status: NodeStatus): ServiceLine[] {
  const containers = new Map(status.containers.map((one) => [one.service, one]));
  return status.expected
    .map((service): ServiceLine => {
      const container = containers.get(service.name);
      const trouble = status.service_trouble[service.name];
      const starting = container?.health === "starting" || container?.state === "created";
      return {
        name: service.name,
        shown: trouble === undefined ? "ok" : starting ? "warning" : "critical",
        text: trouble ?? (service.one_shot ? "done" : (container?.since ?? "")),
        image: container?.image ?? "",
      };
    })
    .sort(
      (a, b) => Number(a.shown === "ok") - Number(b.shown === "ok") || a.name.localeCompare(b.name),
    );
}

/** A sentence of the agent taken apart: what stands between backticks is a command. */
export function commandParts(sentence: string): { text: string; command: boolean }[] {
  return sentence
    .split("`")
    .map((text, index) => ({ text, command: index % 2 === 1 }))
    .filter((part) => part.text !== "");
}

/**
 * Whether a document has what the page draws. The agent of the other node may be of another
 * release, older or newer.
 */
export function isReadable(document: unknown): document is NodeStatus {
  if (document === null || typeof document !== "object") return false;
  const status = document as Record<string, unknown>;
  const lists = ["expected", "containers", "problems", "errors"];
  const records = ["service_trouble", "disk", "memory", "tailnet", "boot"];
  return (
    typeof status["time"] === "number" &&
    lists.every((name) => Array.isArray(status[name])) &&
    records.every((name) => status[name] !== null && typeof status[name] === "object")
  );
}

/** What both nodes say; null for one whose agent does not answer, or not in this page's words. */
export interface NodeLine {
  node: string;
  self: boolean;
  status: NodeStatus | null;
  error: string;
}

export function linesOf(reports: readonly NodeReport[]): NodeLine[] {
  return reports.map(({ node, self, status, error }) => {
    const readable = isReadable(status);
    return {
      node,
      self,
      status: readable ? status : null,
      error: error ?? (readable ? "" : "Its agent answers in a way that this page does not know."),
    };
  });
}

/** Whether the page may still believe a document of that age; the agent makes one every few seconds. */
export function isStale(status: NodeStatus, now: number): boolean {
  return now - status.time * 1000 > 60_000;
}
