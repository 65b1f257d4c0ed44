/** What the API answers, and the calls that the pages make. Times are RFC 3339 unless said. */

import type { ApiClient } from "./http";

export type Status = "ok" | "warning" | "critical";

/** A device as the fleet page needs it. */
export interface FleetDevice {
  device_id: string;
  name: string;
  tags: string[];
  /** null before its first report. */
  status: Status | null;
  message: string;
  observed_at: string | null;
  config_version: string | null;
  /** The device's clock is more than 30 s off. */
  clock_flagged: boolean;
}

export interface FleetSnapshot {
  at: string;
  online_within_seconds: number;
  devices: FleetDevice[];
}

export interface LatestStatus {
  status: Status;
  message: string;
  event_time: string;
  observed_at: string;
  received_at: string;
  uptime_seconds: number | null;
  config_version: string | null;
  agent_version: string | null;
  kernel: string | null;
  clock_skew_seconds: number | null;
  metrics: Record<string, number>;
}

export interface Device {
  device_id: string;
  name: string;
  tags: string[];
  address: string | null;
  enrolled_at: string;
  retired_at: string | null;
  online: boolean;
  latest: LatestStatus | null;
}

export interface Report extends LatestStatus {
  event_id: string;
}

export interface HistoryPage {
  items: Report[];
  total: number;
  page: number;
  page_size: number;
}

/** Reports of one device in buckets of equal length; buckets without a report are left out. */
export interface Series {
  from: string;
  to: string;
  step_seconds: number;
  /** Start of each bucket, in seconds since the epoch, ascending. */
  times: number[];
  /** The worst of each bucket. */
  status: Status[];
  /** The last of each bucket. */
  config_version: (string | null)[];
  metrics: Record<string, MetricSeries>;
}

export interface MetricSeries {
  avg: (number | null)[];
  min: (number | null)[];
  max: (number | null)[];
}

export interface FleetEvent {
  id: number;
  at: string;
  device_id: string | null;
  kind: string;
  detail: Record<string, unknown>;
}

export interface AuditEntry {
  id: number;
  at: string;
  actor: string;
  action: string;
  target: string;
  client: string | null;
  detail: Record<string, unknown>;
}

/** A part of a list, newest first. */
export interface Slice<T> {
  items: T[];
  /** Give it as `before` to go on; null at the end. */
  next: number | null;
}

export interface LogLine {
  at: string;
  line: string;
  labels: Record<string, string>;
}

export interface Health {
  status: "ok" | "degraded";
  node: string;
  database: "up" | "down";
  leader: boolean;
}

/** First event of the stream, sent again when the leader or the epoch changes. */
export interface Hello {
  at: string;
  node: string;
  leader: boolean;
  epoch: number | null;
}

export interface NodeProblem {
  code: string;
  severity: "critical" | "warning";
  what: string;
  remedy: string;
}

export interface NodeContainer {
  service: string;
  state: string;
  health: "healthy" | "unhealthy" | "starting" | "none";
  exit_code: number | null;
  image: string;
  since: string;
}

/** Something that happened to a node's role. */
export interface RoleEvent {
  /** Seconds since the epoch. */
  time: number;
  what: string;
  epoch: number;
  reason: string;
}

/** What a node may and does, as its role manager says. All but `state` is missing while it is silent. */
export interface Roles {
  state: string;
  reason: string;
  /** Whether an arbiter decides. */
  arbiter?: boolean;
  /** By what the node may take writes; null when it may not. */
  right?: "lease" | "pledge" | "operator" | "configured" | null;
  /** Until that right ends; null for one without an end. */
  right_seconds?: number | null;
  epoch?: number;
  /** null on a standby, which does not know. */
  replication?: "sync" | "async" | null;
  lag_bytes?: number | null;
  maintenance?: boolean;
  /** Bytes of log that this node alone had, kept aside. */
  diverged_bytes?: number;
  events?: RoleEvent[];
}

/** The repository and the archive of the database, as the node that leads saw them. */
export interface BackupWatch {
  seen: number;
  newest: number | null;
  newest_full: number | null;
  backups: number;
  /** How long the newest backup took, in seconds. */
  seconds: number | null;
  database_bytes: number | null;
  stored_bytes: number;
  archive_waiting: number;
  archive_oldest_waiting: number | null;
  archive_last: number | null;
  error: string;
}

/** The last restore that was tried, in a scratch folder. */
export interface RestoreTest {
  ended: number;
  ok: boolean;
  faults: string[];
  seconds: number;
  /** How much older than the test's start the newest transaction was, in seconds. */
  recovery_point_age: number | null;
  bytes: number;
  label: string;
  last_good: number | null;
}

/** The last snapshot of Prometheus in the bucket. */
export interface SamplesBackup {
  ended: number;
  bytes: number;
  error: string;
}

/** null for what a node has never done. Times are seconds since the epoch. */
export interface Backups {
  watch: BackupWatch | null;
  restore_test: RestoreTest | null;
  /** Of the second repository; missing in a release that did not tell, null where there is none. */
  second_watch?: BackupWatch | null;
  second_restore_test?: RestoreTest | null;
  samples: SamplesBackup | null;
}

/** The node agent's own document. */
export interface NodeStatus {
  /** Seconds since the epoch. */
  time: number;
  node: string;
  peer: string;
  role: string;
  environment: string;
  release: string | null;
  leader: boolean;
  boot: { state: string };
  expected: { name: string; one_shot: boolean }[];
  containers: NodeContainer[];
  service_trouble: Record<string, string>;
  docker: boolean;
  postgres: boolean;
  disk: { path: string; total: number; free: number };
  memory: { total: number; available: number };
  tailnet: { state: string; address: string | null; peers_online: number; peers: number };
  clock_synchronised: boolean | null;
  certificate_days: number | null;
  reboot_required: boolean;
  problems: NodeProblem[];
  errors: string[];
  /** Missing in a release that did not tell. */
  roles?: Roles;
  backups?: Backups;
}

export interface NodeReport {
  node: string;
  self: boolean;
  at: string;
  /** A NodeStatus, as far as the agent is of this release. */
  status: unknown;
  error: string | null;
}

/** As Alertmanager's API v2 has it. */
export interface Alert {
  fingerprint: string;
  startsAt: string;
  updatedAt: string;
  endsAt: string;
  labels: Record<string, string>;
  annotations: Record<string, string>;
  generatorURL?: string;
  status: {
    state: "active" | "suppressed" | "unprocessed";
    silencedBy: string[];
    inhibitedBy: string[];
  };
}

export interface Matcher {
  name: string;
  value: string;
  isRegex: boolean;
  isEqual: boolean;
}

export interface NewSilence {
  matchers: Matcher[];
  startsAt: string;
  endsAt: string;
  comment: string;
}

export interface Silence extends NewSilence {
  id: string;
  createdBy: string;
  status: { state: "active" | "pending" | "expired" };
}

export const STREAM_PATH = "/api/stream";

/** The API's calls. Each may throw an ApiError. */
export class Api {
  constructor(readonly client: ApiClient) {}

  health(): Promise<Health> {
    return this.client.json("/api/health", { timeout: 5_000 });
  }

  fleet(signal?: AbortSignal): Promise<FleetSnapshot> {
    return this.client.json("/api/fleet", signal ? { signal } : {});
  }

  device(id: string): Promise<Device> {
    return this.client.json(`/api/devices/${encodeURIComponent(id)}`);
  }

  changeDevice(id: string, change: { name?: string; tags?: string[] }): Promise<Device> {
    return this.client.json(`/api/devices/${encodeURIComponent(id)}`, {
      method: "PATCH",
      body: change,
    });
  }

  retireDevice(id: string): Promise<Device> {
    return this.client.json(`/api/devices/${encodeURIComponent(id)}/retire`, { method: "POST" });
  }

  /** @param from, to in milliseconds since the epoch. */
  series(id: string, from: number, to: number, points: number): Promise<Series> {
    const query = new URLSearchParams({ from: iso(from), to: iso(to), points: String(points) });
    return this.client.json(`/api/devices/${encodeURIComponent(id)}/series?${query}`);
  }

  /**
   * Newest first. By the device's own clock, which may be ahead, so there is no end.
   *
   * @param from in milliseconds since the epoch.
   */
  history(id: string, from: number, pageSize: number): Promise<HistoryPage> {
    const query = new URLSearchParams({
      from: iso(from),
      order: "desc",
      page_size: String(pageSize),
    });
    return this.client.json(`/api/devices/${encodeURIComponent(id)}/history?${query}`);
  }

  /** @param from, to in milliseconds since the epoch. */
  logs(id: string, from: number, to: number, contains: string): Promise<{ items: LogLine[] }> {
    const query = new URLSearchParams({ from: iso(from), to: iso(to), limit: "200" });
    if (contains) query.set("contains", contains);
    return this.client.json(`/api/devices/${encodeURIComponent(id)}/logs?${query}`);
  }

  events(
    options: { deviceId?: string; before?: number; limit?: number } = {},
  ): Promise<Slice<FleetEvent>> {
    const query = new URLSearchParams({ limit: String(options.limit ?? 100) });
    if (options.deviceId) query.set("device_id", options.deviceId);
    if (options.before !== undefined) query.set("before", String(options.before));
    return this.client.json(`/api/events?${query}`);
  }

  audit(options: { before?: number; limit?: number } = {}): Promise<Slice<AuditEntry>> {
    const query = new URLSearchParams({ limit: String(options.limit ?? 100) });
    if (options.before !== undefined) query.set("before", String(options.before));
    return this.client.json(`/api/audit?${query}`);
  }

  nodes(): Promise<{ nodes: NodeReport[] }> {
    return this.client.json("/api/nodes");
  }

  alerts(): Promise<Alert[]> {
    return this.client.json("/api/alerts");
  }

  silences(): Promise<Silence[]> {
    return this.client.json("/api/silences");
  }

  addSilence(silence: NewSilence): Promise<{ silenceID: string }> {
    return this.client.json("/api/silences", { method: "POST", body: silence });
  }

  endSilence(id: string): Promise<void> {
    return this.client.json(`/api/silences/${encodeURIComponent(id)}`, { method: "DELETE" });
  }
}

function iso(milliseconds: number): string {
  return new Date(milliseconds).toISOString();
}
