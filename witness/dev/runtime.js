/**
 * Start and stop the witness under workerd, on loopback.
 *
 * @typedef {object} Bindings
 * @property {Record<string, { address: string, leader: string }>} nodes
 * @property {number} leaseSeconds
 * @property {Record<string, string[]>} nodeTokens
 * @property {string} operatorToken
 * @property {{ api: string, token: string, zoneId: string, name: string } | null} zone
 *
 * @typedef {object} Place
 * @property {string} storage Folder of the Durable Object's database.
 * @property {number} port Of the Worker; 0 for a free one.
 * @property {string} outside HOST:PORT of the proxy that all of its requests go to.
 *
 * @typedef {object} Running
 * @property {string} url
 * @property {string} cronUrl POST there is a minute passed.
 * @property {() => Promise<void>} stop
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const CONFIG = fileURLToPath(new URL("workerd.capnp", import.meta.url));
/** @type {string} The package names its program, and has no types. */
const WORKERD = createRequire(import.meta.url)("workerd").default;
const CONTROL = 3; // the descriptor on which workerd tells its ports

/**
 * @param {Bindings} bindings
 * @returns {Record<string, string>}
 */
function environment({ nodes, leaseSeconds, nodeTokens, operatorToken, zone }) {
  return {
    NODES: JSON.stringify(nodes),
    LEASE_SECONDS: String(leaseSeconds),
    NODE_TOKENS: JSON.stringify(nodeTokens),
    OPERATOR_TOKEN: operatorToken,
    STEERING: zone ? "worker" : "none",
    CLOUDFLARE_API: zone?.api ?? "",
    DNS_TOKEN: zone?.token ?? "",
    ZONE_ID: zone?.zoneId ?? "",
    PUBLIC_NAME: zone?.name ?? "",
  };
}

/**
 * @param {Bindings} bindings
 * @param {Place} place
 * @returns {Promise<Running>}
 */
export async function start(bindings, place) {
  const program = spawn(
    WORKERD,
    [
      ...["serve", CONFIG, "config", "--experimental", `--control-fd=${CONTROL}`],
      `--socket-addr=witness=127.0.0.1:${place.port}`,
      "--socket-addr=cron=127.0.0.1:0",
      `--directory-path=storage=${place.storage}`,
      `--external-addr=outside=${place.outside}`,
    ],
    { env: environment(bindings), stdio: ["ignore", "inherit", "inherit", "pipe"] },
  );
  const ended = once(program, "exit");
  const ports = await Promise.race([portsOf(program), ended]);
  if (!(ports instanceof Map)) throw new Error("workerd ended while starting; see its words above");
  return {
    url: `http://127.0.0.1:${ports.get("witness")}`,
    cronUrl: `http://127.0.0.1:${ports.get("cron")}`,
    stop: async () => {
      program.kill("SIGTERM");
      await ended;
    },
  };
}

/**
 * @param {import("node:child_process").ChildProcess} program
 * @returns {Promise<Map<string, number>>} Socket to port, once both listen.
 */
async function portsOf(program) {
  const control = /** @type {import("node:stream").Readable} */ (program.stdio[CONTROL]);
  /** @type {Map<string, number>} */
  const ports = new Map();
  for await (const line of createInterface({ input: control })) {
    const message = JSON.parse(line);
    if (message.event === "listen") ports.set(message.socket, message.port);
    if (ports.size === 2) break;
  }
  return ports;
}
