/** Numbers and times as an operator reads them. */

/** "now", "12 s", "4 min", "3 h", "5 d". */
export function ago(then: number, now: number): string {
  const seconds = Math.round((now - then) / 1000);
  if (seconds < 1) return "now";
  return span(seconds);
}

/** A length of time in its largest unit; seconds in. */
export function span(seconds: number): string {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min`;
  if (seconds < 36 * 3600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

/** A length of time in its two largest units, such as "3 d 4 h"; seconds in. */
export function longSpan(seconds: number): string {
  const units: [string, number][] = [
    ["d", 86400],
    ["h", 3600],
    ["min", 60],
    ["s", 1],
  ];
  const first = units.findIndex(([, size]) => seconds >= size);
  if (first < 0) return "0 s";
  let rest = Math.floor(seconds);
  return units
    .slice(first, first + 2)
    .map(([unit, size]) => {
      const count = Math.floor(rest / size);
      rest -= count * size;
      return count > 0 ? `${count} ${unit}` : "";
    })
    .filter(Boolean)
    .join(" ");
}

const clockFormat = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const secondsFormat = new Intl.DateTimeFormat("en-GB", {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
});
const dayFormat = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const fullFormat = new Intl.DateTimeFormat("en-GB", {
  dateStyle: "medium",
  timeStyle: "long",
});

/** "12:03" today, "22 Nov 12:03" on another day; the reader's own time zone. */
export function clock(time: number, now: number): string {
  return onSameDay(time, now)
    ? clockFormat.format(time)
    : `${dayFormat.format(time)} ${clockFormat.format(time)}`;
}

/** As clock, with seconds. */
export function clockSeconds(time: number, now: number): string {
  return onSameDay(time, now)
    ? secondsFormat.format(time)
    : `${dayFormat.format(time)} ${secondsFormat.format(time)}`;
}

/**
 * A time on the axis of a chart: the day at midnight, the hour at other times.
 *
 * @param time, step in seconds; step is from one mark to the next.
 */
export function timeTick(time: number, step: number): string {
  const date = new Date(time * 1000);
  const midnight = date.getHours() === 0 && date.getMinutes() === 0;
  return step >= 86400 || midnight ? dayFormat.format(date) : clockFormat.format(date);
}

/** Date, time and time zone. */
export function fullTime(time: number): string {
  return fullFormat.format(time);
}

function onSameDay(a: number, b: number): boolean {
  return new Date(a).toDateString() === new Date(b).toDateString();
}

/** "1.5 GiB". */
export function bytes(count: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = Math.abs(count);
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : 1;
  return `${count < 0 ? "-" : ""}${value.toFixed(digits)} ${units[unit]}`;
}

const whole = new Intl.NumberFormat("en");

/** A count with thousands apart. */
export function count(value: number): string {
  return whole.format(value);
}

/** As many digits as anybody reads: three or so. */
function plain(value: number): string {
  const size = Math.abs(value);
  const digits = size >= 100 ? 0 : size >= 10 ? 1 : 2;
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

/** A metric's value with the unit that its name ends in. */
export function metricValue(name: string, value: number): string {
  if (name.endsWith("_percent")) return `${plain(Math.round(value * 10) / 10)} %`;
  if (name.endsWith("_bytes")) return bytes(value);
  if (name.endsWith("_c")) return `${plain(value)} °C`;
  if (name.endsWith("_seconds") || name.endsWith("_s")) {
    return Math.abs(value) < 60 ? `${plain(value)} s` : longSpan(Math.abs(value));
  }
  return plain(value);
}

/** "disk_used_percent" becomes "Disk used". */
export function metricTitle(name: string): string {
  const words = name
    .replace(/_(percent|bytes|c|seconds|s|total)$/, "")
    .split("_")
    .join(" ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}
