/** Answers of the API as the browser tests play them: a fleet of any size, the same every time. */

import type {
  Alert,
  AuditEntry,
  Backups,
  Device,
  FleetDevice,
  FleetEvent,
  LogLine,
  NodeReport,
  NodeStatus,
  Report,
  Roles,
  Series,
  Silence,
  Status,
} from "../../src/api";

/** Numbers that look like chance and are the same in every run (Park and Miller's generator). */
export function chance(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  };
}

const SITES = ["aachen", "berlin", "cologne", "dresden", "essen", "freiburg", "graz", "hamburg"];
const iso = (milliseconds: number) => new Date(milliseconds).toISOString();

/** Mostly well: about 3 % warnings, 1 % critical, 2 % silent. */
export function makeFleet(count: number, now: number): FleetDevice[] {
  const random = chance(count);
  const digits = String(count).length;
  return Array.from({ length: count }, (_, index): FleetDevice => {
    const id = `pi-${String(index + 1).padStart(digits, "0")}`;
    const draw = random();
    const status: Status = draw < 0.01 ? "critical" : draw < 0.04 ? "warning" : "ok";
    const silent = random() < 0.02;
    const fresh = index === count - 1;
    const disk = (status === "critical" ? 95 : 85) + Math.floor(random() * 5);
    const limit = status === "critical" ? 95 : 85;
    return {
      device_id: id,
      name: id,
      tags: [`site:${SITES[index % SITES.length]}`, `ring:${index % 10 === 0 ? "canary" : "main"}`],
      status: fresh ? null : status,
      message:
        fresh || status === "ok" ? "" : `disk_used_percent is ${disk}, ${status} from ${limit}`,
      observed_at: fresh
        ? null
        : iso(now - (silent ? 3600_000 * random() + 200_000 : 55_000 * random())),
      config_version: fresh ? null : index % 10 === 0 ? "2026.11.3" : "2026.11.2",
      clock_flagged: random() < 0.01,
    };
  });
}

export function makeEvents(fleet: readonly FleetDevice[], now: number): FleetEvent[] {
  const random = chance(7);
  return Array.from({ length: 60 }, (_, index): FleetEvent => {
    // Some of one device, for its own page.
    const place = index % 9 === 8 ? 20 % fleet.length : Math.floor(random() * fleet.length);
    const device = fleet[place]!;
    const worse = index % 3 === 0;
    return {
      id: 1000 - index,
      at: iso(now - index * index * 9_000 - 4_000),
      device_id: device.device_id,
      kind: index % 17 === 5 ? "enrolled" : "status_changed",
      detail:
        index % 17 === 5
          ? {}
          : {
              from: worse ? "ok" : "warning",
              to: worse ? "warning" : "ok",
              message: worse ? "memory_used_percent is 91.3, warning from 90" : "",
            },
    };
  });
}

export function deviceOf(one: FleetDevice, now: number): Device {
  return {
    device_id: one.device_id,
    name: one.name,
    tags: one.tags,
    address: "100.64.0.17",
    enrolled_at: iso(now - 40 * 86400_000),
    retired_at: null,
    online: true,
    latest:
      one.status === null
        ? null
        : {
            status: one.status,
            message: one.message,
            event_time: one.observed_at!,
            observed_at: one.observed_at!,
            received_at: one.observed_at!,
            uptime_seconds: 93_600,
            config_version: one.config_version,
            agent_version: "0.1.0",
            kernel: "6.12.34+rpt-rpi-v8",
            clock_skew_seconds: one.clock_flagged ? 3600 : 0.2,
            metrics: { disk_used_percent: 41.2 },
          },
  };
}

/** A day like many: a warning in the afternoon, an hour of silence, a new configuration. */
export function makeSeries(from: number, to: number, points: number): Series {
  const random = chance(11);
  const step = Math.max(60, Math.round((to - from) / 1000 / points));
  const times: number[] = [];
  const status: Status[] = [];
  const config: string[] = [];
  const names = [
    "memory_used_percent",
    "disk_used_percent",
    "temperature_c",
    "load_1m",
    "load_5m",
    "load_15m",
    "queue_waiting",
    "boot_count",
    "memory_available_bytes",
  ];
  const metrics: Series["metrics"] = Object.fromEntries(
    names.map((name) => [name, { avg: [], min: [], max: [] }]),
  );
  const count = Math.floor((to - from) / 1000 / step);
  for (let index = 0; index < count; index += 1) {
    const part = index / count;
    if (part > 0.55 && part < 0.6) continue;
    times.push(Math.round(from / 1000) + index * step);
    status.push(
      part > 0.3 && part < 0.36 ? "warning" : part > 0.36 && part < 0.37 ? "critical" : "ok",
    );
    config.push(part < 0.7 ? "2026.11.2" : "2026.11.3");
    const wave = Math.sin(part * 12);
    const values: Record<string, number> = {
      memory_used_percent: 48 + 8 * wave + 3 * random() + (part > 0.3 && part < 0.37 ? 35 : 0),
      disk_used_percent: 39 + part * 4,
      temperature_c: 52 + 6 * wave + 2 * random(),
      load_1m: Math.max(0, 0.7 + 0.4 * wave + 0.3 * random()),
      load_5m: Math.max(0, 0.7 + 0.35 * wave + 0.1 * random()),
      load_15m: Math.max(0, 0.7 + 0.3 * wave),
      queue_waiting: part > 0.6 && part < 0.62 ? Math.round(60 * (0.62 - part) * 50) : 0,
      boot_count: 4,
      memory_available_bytes: (2 - 0.2 * wave) * 1024 ** 3,
    };
    for (const name of names) {
      const value = values[name]!;
      metrics[name]!.avg.push(value);
      metrics[name]!.min.push(value * 0.97);
      metrics[name]!.max.push(value * 1.04);
    }
  }
  return {
    from: iso(from),
    to: iso(to),
    step_seconds: step,
    times,
    status,
    config_version: config,
    metrics,
  };
}

export function makeReports(now: number): Report[] {
  return Array.from({ length: 20 }, (_, index): Report => {
    const at = now - 20_000 - index * 60_000;
    const warning = index === 6;
    return {
      event_id: `00000000-0000-4000-8000-${String(index).padStart(12, "0")}`,
      status: warning ? "warning" : "ok",
      message: warning ? "memory_used_percent is 91.3, warning from 90" : "",
      event_time: iso(at),
      observed_at: iso(at),
      received_at: iso(at + 140 + index * 3),
      uptime_seconds: 93_600,
      config_version: "2026.11.3",
      agent_version: "0.1.0",
      kernel: "6.12.34+rpt-rpi-v8",
      clock_skew_seconds: 0.2,
      metrics: {},
    };
  });
}

export function makeLogs(now: number): LogLine[] {
  const lines = [
    "status acknowledged in 38 ms",
    "configuration 2026.11.3 verified and in use",
    "GET /config from git.example.com: 200, not modified",
    "disk: 41.2 % of 29.7 GiB in use",
  ];
  return Array.from({ length: 40 }, (_, index) => ({
    at: iso(now - 9_000 - index * 31_000),
    line: `level=info ${lines[index % lines.length]}`,
    labels: { job: "device" },
  }));
}

function alert(
  name: string,
  severity: string,
  minutes: number,
  now: number,
  labels: Record<string, string>,
  annotations: Record<string, string>,
): Alert {
  return {
    fingerprint: `${name}-${JSON.stringify(labels)}`,
    startsAt: iso(now - minutes * 60_000),
    updatedAt: iso(now),
    endsAt: iso(now + 300_000),
    labels: { alertname: name, severity, ...labels },
    annotations,
    status: { state: "active", silencedBy: [], inhibitedBy: [] },
  };
}

export function makeAlerts(now: number): Alert[] {
  const inhibited = alert(
    "ServiceDown",
    "P2",
    11,
    now,
    { node: "vps-02", service: "loki" },
    {
      summary: "loki on vps-02 does not answer",
    },
  );
  inhibited.status = { state: "suppressed", silencedBy: [], inhibitedBy: ["x"] };
  return [
    alert(
      "NodeDown",
      "P1",
      12,
      now,
      { node: "vps-02", job: "node", topic: "node" },
      {
        summary: "vps-02 does not answer",
        description:
          "Its node exporter cannot be reached over the tailnet. Devices go on by themselves.",
        runbook: "docs/runbooks/node-down.md",
      },
    ),
    alert(
      "DeviceSilent",
      "P3",
      44,
      now,
      { device: "pi-017", topic: "device" },
      {
        summary: "pi-017 has not reported for 44m 0s",
        description: "It keeps its statuses for 7 days and sends them when it is back.",
        runbook: "docs/runbooks/device-silent.md",
      },
    ),
    alert(
      "DiskFullWithinADay",
      "P2",
      190,
      now,
      { node: "vps-01", device: "/dev/sda1", topic: "disk-trend" },
      {
        summary: "/ of vps-01 is full within a day at this rate",
        runbook: "docs/runbooks/disk-full.md",
      },
    ),
    inhibited,
    alert("Watchdog", "none", 60_000, now, {}, { summary: "Always fires" }),
  ];
}

export function makeSilences(now: number): Silence[] {
  return [
    {
      id: "5c1b7a9e-0000-4000-8000-000000000001",
      status: { state: "active" },
      createdBy: "operator",
      comment: "Site is being rewired until the evening",
      startsAt: iso(now - 3600_000),
      endsAt: iso(now + 2.4 * 3600_000),
      matchers: [{ name: "device", value: "pi-0(21|22)", isRegex: true, isEqual: true }],
    },
  ];
}

const SERVICES = [
  ["alertmanager", "prom/alertmanager:v0.28.1"],
  ["api", "overlord/api:0.1.0"],
  ["grafana", "grafana/grafana:12.2.0"],
  ["loki", "grafana/loki:3.5.5"],
  ["migrate", "overlord/api:0.1.0"],
  ["nginx", "library/nginx:1.29.1-alpine"],
  ["node-exporter", "prom/node-exporter:v1.9.1"],
  ["postgres", "library/postgres:17.6-bookworm"],
  ["prometheus", "prom/prometheus:v3.5.0"],
] as const;

function nodeStatus(node: string, now: number): NodeStatus {
  const primary = node === "vps-01";
  const broken = primary ? "" : "loki";
  return {
    time: now / 1000 - 3,
    node,
    peer: primary ? "vps-02" : "vps-01",
    role: primary ? "primary" : "standby",
    environment: "sandbox",
    release: primary ? "9f31c0a7d2b45e" : "9f31c0a7d2b45e",
    leader: primary,
    boot: { state: "done" },
    expected: SERVICES.map(([name]) => ({ name, one_shot: name === "migrate" })),
    containers: SERVICES.map(([service, image]) => ({
      service,
      image,
      state: service === broken ? "restarting" : service === "migrate" ? "exited" : "running",
      health:
        service === broken || service === "migrate" ? ("none" as const) : ("healthy" as const),
      exit_code: service === "migrate" ? 0 : service === broken ? 137 : null,
      since:
        service === broken
          ? "Restarting (137) 8 seconds ago"
          : service === "migrate"
            ? "Exited (0) 2 days ago"
            : "Up 2 days (healthy)",
    })),
    service_trouble: broken ? { [broken]: "is restarting (137)" } : {},
    docker: true,
    postgres: true,
    disk: { path: "/var/lib/docker", total: 160e9, free: primary ? 91e9 : 24e9 },
    memory: { total: 8.2e9, available: primary ? 3.9e9 : 5.1e9 },
    tailnet: {
      state: "Running",
      address: primary ? "100.64.0.1" : "100.64.0.2",
      peers_online: 488,
      peers: 501,
    },
    clock_synchronised: true,
    certificate_days: 74.3,
    reboot_required: !primary,
    problems: primary
      ? []
      : [
          {
            code: "service-loki",
            severity: "critical",
            what: "service loki is restarting (137)",
            remedy: "`sudo overlordctl logs loki`",
          },
          {
            code: "disk",
            severity: "warning",
            what: "disk of /var/lib/docker is 85% full",
            remedy: "`docker image prune --all`, less retention, or a larger server type",
          },
          {
            code: "reboot",
            severity: "warning",
            what: "updates wait for a reboot",
            remedy: "reboot the standby, see it healthy, then the primary",
          },
        ],
    errors: [],
    roles: roles(primary, now / 1000),
    backups: backups(primary, now / 1000),
  };
}

function roles(primary: boolean, now: number): Roles {
  const event = (days: number, what: string, epoch: number, reason = "") => ({
    time: now - days * 86400,
    what,
    epoch,
    reason,
  });
  return {
    state: primary ? "primary" : "standby",
    reason: primary ? "holds the lease; vps-02 is in sync" : "streams from vps-01",
    arbiter: true,
    right: primary ? "lease" : null,
    right_seconds: primary ? 21.4 : null,
    epoch: primary ? 7 : 6,
    replication: primary ? "sync" : null,
    lag_bytes: primary ? 0 : null,
    maintenance: false,
    diverged_bytes: 0,
    events: primary
      ? [event(3.1, "promoted", 7, "lease"), event(3.09, "replication is sync", 7)]
      : [event(3.1, "switchover", 6, "to vps-01"), event(40, "promoted", 6, "lease")],
  };
}

function backups(primary: boolean, now: number): Backups {
  return primary
    ? {
        watch: {
          seen: now - 140,
          newest: now - 5.2 * 3600,
          newest_full: now - 4.2 * 86400,
          backups: 31,
          seconds: 48,
          database_bytes: 3.1e9,
          stored_bytes: 24.6e9,
          archive_waiting: 0,
          archive_oldest_waiting: null,
          archive_last: now - 41,
          error: "",
        },
        restore_test: null,
        samples: { ended: now - 9 * 3600, bytes: 1.9e9, error: "" },
      }
    : {
        watch: null,
        restore_test: {
          ended: now - 6.1 * 3600,
          ok: true,
          faults: [],
          seconds: 93,
          recovery_point_age: 44,
          bytes: 3.1e9,
          label: "20261122-030012F_20261126-030008I",
          last_good: now - 6.1 * 3600,
        },
        samples: null,
      };
}

export function makeNodes(now: number, secondRepository = false): NodeReport[] {
  return ["vps-01", "vps-02"].map((node) => {
    const status = nodeStatus(node, now);
    if (secondRepository) {
      status.backups!.second_watch = status.backups!.watch && {
        ...status.backups!.watch,
        error: "the backup repository cannot be read: no route to host",
      };
    }
    return { node, self: node === "vps-01", at: iso(now), status, error: null };
  });
}

export function makeAudit(now: number): AuditEntry[] {
  const lines: [string, string, string, Record<string, unknown>][] = [
    [
      "operator",
      "silence.add",
      "5c1b7a9e-0000-4000-8000-000000000001",
      { comment: "Site is being rewired until the evening", hours: 4 },
    ],
    [
      "operator",
      "device.change",
      "pi-021",
      { from: { name: "pi-021" }, to: { name: "Roof east" } },
    ],
    [
      "enroller",
      "device.enrol",
      "pi-500",
      { name: "pi-500", tags: ["site:dresden"], address: "100.64.2.19" },
    ],
    ["operator", "device.retire", "pi-499", {}],
  ];
  return lines.map(([actor, action, target, detail], index) => ({
    id: 90 - index,
    at: iso(now - 1800_000 * (index + 1) ** 2),
    actor,
    action,
    target,
    client: "203.0.113.9",
    detail,
  }));
}
