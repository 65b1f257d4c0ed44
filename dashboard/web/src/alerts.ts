/** The alerts that fire, for the number in the navigation and for the alerts page. */

import { computed, ref, shallowRef } from "vue";

import type { Alert, Matcher, Silence } from "./api";
import { messageOf } from "./http";
import { api } from "./services";

const EVERY_MS = 15_000;

export const alerts = shallowRef<Alert[] | null>(null);
export const silences = shallowRef<Silence[]>([]);
export const alertsError = ref("");

/** What wants somebody's eyes: silenced, inhibited and always-firing ones are not counted. */
export const firing = computed(
  () =>
    (alerts.value ?? []).filter((one) => isForPeople(one) && one.status.state === "active").length,
);

/** The Watchdog always fires; it proves that alerts get through and is not for people. */
export function isForPeople(alert: Alert): boolean {
  return alert.labels["alertname"] !== "Watchdog";
}

export async function loadAlerts(): Promise<void> {
  try {
    const [all, quiet] = await Promise.all([api.alerts(), api.silences()]);
    alerts.value = all;
    silences.value = quiet.filter((one) => one.status.state !== "expired");
    alertsError.value = "";
  } catch (error) {
    alertsError.value = messageOf(error);
  }
}

/** Asks every quarter of a minute; the answer ends it. */
export function watchAlerts(): () => void {
  const ask = () => {
    if (document.visibilityState === "visible") void loadAlerts();
  };
  ask();
  const timer = setInterval(ask, EVERY_MS);
  document.addEventListener("visibilitychange", ask);
  return () => {
    clearInterval(timer);
    document.removeEventListener("visibilitychange", ask);
    alerts.value = null;
    silences.value = [];
  };
}

const SEVERITIES = ["P1", "P2", "P3"];

/** Worst first, then the newest. */
export function bySeverity(list: readonly Alert[]): Alert[] {
  const rank = (alert: Alert) => {
    const place = SEVERITIES.indexOf(alert.labels["severity"] ?? "");
    return place < 0 ? SEVERITIES.length : place;
  };
  return [...list].sort(
    (a, b) => rank(a) - rank(b) || Date.parse(b.startsAt) - Date.parse(a.startsAt),
  );
}

/** Matchers that hold for exactly this alert's labels. */
export function matchersOf(alert: Alert): Matcher[] {
  return Object.entries(alert.labels).map(([name, value]) => ({
    name,
    value,
    isRegex: false,
    isEqual: true,
  }));
}

/** A matcher as Alertmanager writes it. */
export function matcherText(matcher: Matcher): string {
  const sign = matcher.isEqual ? (matcher.isRegex ? "=~" : "=") : matcher.isRegex ? "!~" : "!=";
  return `${matcher.name}${sign}${JSON.stringify(matcher.value)}`;
}
