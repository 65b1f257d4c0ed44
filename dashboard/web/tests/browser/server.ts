/** Serves the built page as nginx does, with an API that plays recorded answers. */

import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join, normalize } from "node:path";
import { gzipSync } from "node:zlib";

import type { FleetDevice, FleetEvent, NewSilence, Silence } from "../../src/api";
import * as answers from "./answers";

/** The policy of the real server (stack/nginx). */
const HEADERS = {
  "Content-Security-Policy":
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
  "X-Content-Type-Options": "nosniff",
  "Referrer-Policy": "no-referrer",
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Resource-Policy": "same-origin",
};

const TYPES: Record<string, string> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
};

export class FakeServer {
  readonly token = randomBytes(24).toString("hex");
  readonly requests: string[] = [];
  fleet: FleetDevice[];
  events: FleetEvent[];
  silences: Silence[];
  leader = true;
  /** New streams are refused with 503. */
  refuseStreams = false;
  /** Nothing below /api/ answers but 503. */
  apiAway = false;
  /** The peer's agent is of a release that the page does not know. */
  peerUnreadable = false;
  secondRepository = false;
  private readonly server: Server;
  private readonly streams = new Set<ServerResponse>();
  private heartbeat: NodeJS.Timeout;

  constructor(
    private readonly folder: string,
    devices: number,
  ) {
    const now = Date.now();
    this.fleet = answers.makeFleet(devices, now);
    this.events = answers.makeEvents(this.fleet, now);
    this.silences = answers.makeSilences(now);
    this.server = createServer((request, response) => {
      this.answer(request, response).catch((error: unknown) => {
        response.writeHead(500).end(String(error));
      });
    });
    this.heartbeat = setInterval(() => {
      for (const stream of this.streams) stream.write(": ping\n\n");
    }, 5_000);
  }

  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.server.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    clearInterval(this.heartbeat);
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  get openStreams(): number {
    return this.streams.size;
  }

  /** Ends all streams, as a restarted API does. */
  cutStreams(): void {
    for (const stream of this.streams) stream.destroy();
  }

  send(event: string, data: unknown): void {
    for (const stream of this.streams)
      stream.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  }

  /** A device reports: the API commits it and tells the streams. */
  report(id: string, status: "ok" | "warning" | "critical", message = ""): void {
    const index = this.fleet.findIndex((one) => one.device_id === id);
    const before = this.fleet[index]!;
    const now = new Date().toISOString();
    const device = { ...before, status, message, observed_at: now };
    this.fleet[index] = device;
    this.send("devices", { devices: [device] });
    if (before.status !== status) {
      const event: FleetEvent = {
        id: (this.events[0]?.id ?? 0) + 1,
        at: now,
        device_id: id,
        kind: "status_changed",
        detail: { from: before.status, to: status, message },
      };
      this.events.unshift(event);
      this.send("event", event);
    }
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", "http://localhost");
    this.requests.push(`${request.method} ${url.pathname}`);
    if (url.pathname === "/bare.html") {
      response.writeHead(200, { ...HEADERS, "Content-Type": "text/html" }).end("<p>Overlord");
    } else if (url.pathname.startsWith("/api/")) await this.api(request, response, url);
    else await this.file(response, url.pathname);
  }

  private async file(response: ServerResponse, path: string): Promise<void> {
    const name = normalize(path === "/" ? "/index.html" : path);
    try {
      const content = await readFile(join(this.folder, name));
      response
        .writeHead(200, { ...HEADERS, "Content-Type": TYPES[extname(name)] ?? "text/plain" })
        .end(content);
    } catch {
      response.writeHead(404, HEADERS).end();
    }
  }

  private async api(request: IncomingMessage, response: ServerResponse, url: URL): Promise<void> {
    const now = Date.now();
    const path = url.pathname;
    const json = (body: unknown, status = 200) => {
      const packed = gzipSync(JSON.stringify(body), { level: 1 });
      response
        .writeHead(status, {
          "Content-Type": status < 400 ? "application/json" : "application/problem+json",
          "Content-Encoding": "gzip",
          "Cache-Control": "no-store",
        })
        .end(packed);
    };
    const problem = (status: number, detail: string, reason: string) =>
      json({ status, detail, reason }, status);

    if (this.apiAway) return problem(503, "The API of this node does not answer.", "away");
    if (path === "/api/health") {
      return json({ status: "ok", node: "vps-01", database: "up", leader: this.leader });
    }
    if (request.headers.authorization !== `Bearer ${this.token}`) {
      return problem(401, "The token is not valid for reading or changing the fleet.", "bad_token");
    }
    if (path === "/api/stream") return this.stream(response, problem);
    if (path === "/api/fleet") {
      return json({
        at: new Date(now).toISOString(),
        online_within_seconds: 180,
        devices: this.fleet,
      });
    }
    if (path === "/api/devices") {
      return json({ items: [], total: this.fleet.length, page: 1, page_size: 1 });
    }
    if (path === "/api/events") {
      const id = url.searchParams.get("device_id");
      const items = this.events.filter((one) => !id || one.device_id === id);
      return json({ items, next: null });
    }
    if (path === "/api/nodes") {
      const [own, peer] = answers.makeNodes(now, this.secondRepository);
      return json({
        nodes: [own, this.peerUnreadable ? { ...peer, status: { leader: true } } : peer],
      });
    }
    if (path === "/api/audit") return json({ items: answers.makeAudit(now), next: null });
    if (path === "/api/alerts") return json(answers.makeAlerts(now));
    if (path === "/api/silences" && request.method === "POST") {
      const asked = JSON.parse(await body(request)) as NewSilence;
      const id = randomBytes(8).toString("hex");
      this.silences.push({ ...asked, id, createdBy: "operator", status: { state: "active" } });
      return json({ silenceID: id });
    }
    if (path === "/api/silences") return json(this.silences);
    if (path.startsWith("/api/silences/") && request.method === "DELETE") {
      this.silences = this.silences.filter((one) => !path.endsWith(one.id));
      response.writeHead(204).end();
      return;
    }

    const [, , , id, part] = path.split("/");
    const device = this.fleet.find((one) => one.device_id === id);
    if (!path.startsWith("/api/devices/") || !device) {
      return problem(404, `No device ${id} is enrolled.`, "no_such_device");
    }
    const from = Date.parse(url.searchParams.get("from") ?? "");
    const to = Date.parse(url.searchParams.get("to") ?? "");
    if (part === "series")
      return json(answers.makeSeries(from, to, Number(url.searchParams.get("points"))));
    if (part === "history")
      return json({ items: answers.makeReports(now), total: 20, page: 1, page_size: 20 });
    if (part === "logs") return json({ items: answers.makeLogs(now) });
    if (request.method === "GET") return json(answers.deviceOf(device, now));
    if (!this.leader) {
      return problem(503, "This node is not the leader and takes no writes.", "not_leader");
    }
    if (request.method === "PATCH") {
      Object.assign(device, JSON.parse(await body(request)));
      this.send("devices", { devices: [device] });
    }
    if (part === "retire") {
      this.fleet = this.fleet.filter((one) => one !== device);
      this.send("retired", { device_id: id });
      return json({ ...answers.deviceOf(device, now), retired_at: new Date(now).toISOString() });
    }
    json(answers.deviceOf(device, now));
  }

  private stream(
    response: ServerResponse,
    problem: (status: number, detail: string, reason: string) => void,
  ): void {
    if (this.refuseStreams) return problem(503, "The stream is not available now.", "away");
    response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-store" });
    this.streams.add(response);
    response.on("close", () => this.streams.delete(response));
    const hello = {
      at: new Date().toISOString(),
      node: "vps-01",
      leader: this.leader,
      epoch: null,
    };
    response.write(`event: hello\ndata: ${JSON.stringify(hello)}\n\n`);
  }
}

async function body(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}
