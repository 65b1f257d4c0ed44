/**
 * Everything that the Worker can reach: Cloudflare's API with one record, and the nodes' /leader.
 */

import { createServer } from "node:http";

export class Outside {
  constructor() {
    this.record = { id: "r1", name: "fleet.example.com", type: "A", content: "192.0.2.1" };
    /** @type {string[]} */
    this.calls = [];
    /** @type {string[]} Addresses that were written, in order. */
    this.written = [];
    /** Answers of the API that fail before one works. */
    this.failures = 0;
    /** @type {Record<string, number>} Status of a node's /leader by host; 0 cuts the connection. */
    this.leader = { "vps-01.example.com": 200, "vps-02.example.com": 503 };
    this.token = "";
    // workerd leaves the Host header out towards a proxy.
    this.server = createServer({ requireHostHeader: false }, (request, response) => {
      void this.#answer(request, response);
    });
  }

  /** @returns {Promise<string>} HOST:PORT. */
  async start() {
    await new Promise((resolve) => this.server.listen(0, "127.0.0.1", () => resolve(null)));
    const address = this.server.address();
    if (address === null || typeof address === "string") throw new Error("not listening");
    return `127.0.0.1:${address.port}`;
  }

  stop() {
    this.server.closeAllConnections();
    this.server.close();
  }

  /**
   * @param {import("node:http").IncomingMessage} request
   * @param {import("node:http").ServerResponse} response
   */
  async #answer(request, response) {
    const url = new URL(request.url ?? "");
    this.calls.push(`${request.method} ${url.origin}${url.pathname}`);
    let text = "";
    for await (const chunk of request) text += chunk;
    if (url.pathname === "/leader") {
      const status = this.leader[url.host] ?? 530;
      if (status === 0) request.socket.destroy();
      else response.writeHead(status).end("{}");
      return;
    }
    /** @type {(status: number, body: object) => void} */
    const send = (status, body) =>
      void response
        .writeHead(status, { "Content-Type": "application/json" })
        .end(JSON.stringify({ errors: [], ...body }));
    if (request.headers.authorization !== `Bearer ${this.token}`) {
      return send(403, { success: false, errors: [{ message: "Authentication error" }] });
    }
    if (this.failures > 0) {
      this.failures -= 1;
      return send(500, { success: false, errors: [{ message: "out of order" }] });
    }
    if (request.method === "PATCH") {
      Object.assign(this.record, JSON.parse(text));
      this.written.push(this.record.content);
      return send(200, { success: true, result: this.record });
    }
    return send(200, { success: true, result: [this.record] });
  }
}
