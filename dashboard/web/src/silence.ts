/** A silence as the operator asks for it. */

import type { Matcher, NewSilence } from "./api";

export const DURATIONS: readonly { title: string; hours: number }[] = [
  { title: "30 minutes", hours: 0.5 },
  { title: "1 hour", hours: 1 },
  { title: "4 hours", hours: 4 },
  { title: "12 hours", hours: 12 },
  { title: "1 day", hours: 24 },
  { title: "3 days", hours: 72 },
  { title: "1 week", hours: 168 },
];

/**
 * @param matchers those that the operator has kept; without one, everything would be silent.
 * @param now in milliseconds since the epoch.
 */
export function newSilence(
  matchers: readonly Matcher[],
  hours: number,
  comment: string,
  now: number,
): { silence: NewSilence } | { problem: string } {
  if (matchers.length === 0) {
    return { problem: "Keep at least one label: a silence without any would cover every alert." };
  }
  if (!comment.trim()) {
    return { problem: "Say why, for whoever looks at this at night." };
  }
  return {
    silence: {
      matchers: [...matchers],
      startsAt: new Date(now).toISOString(),
      endsAt: new Date(now + hours * 3600_000).toISOString(),
      comment: comment.trim(),
    },
  };
}
