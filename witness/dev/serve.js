/**
 * `npm run dev -- --port 8810`: the witness alone, for trying the nodes' side against it.
 *
 * Tokens come from the environment: TOKEN_VPS_01, TOKEN_VPS_02, TOKEN_OPERATOR.
 */

import { mkdirSync } from "node:fs";
import { parseArgs } from "node:util";

import { start } from "./runtime.js";

const { values } = parseArgs({
  options: {
    port: { type: "string", default: "8810" },
    "lease-seconds": { type: "string", default: "15" },
    storage: { type: "string" },
    outside: { type: "string", default: "127.0.0.1:9" },
  },
});
const { TOKEN_VPS_01, TOKEN_VPS_02, TOKEN_OPERATOR } = process.env;
if (!values.storage || !TOKEN_VPS_01 || !TOKEN_VPS_02 || !TOKEN_OPERATOR) {
  console.error(
    "usage: TOKEN_VPS_01=… TOKEN_VPS_02=… TOKEN_OPERATOR=… npm run dev -- --storage FOLDER " +
      "[--port 8810] [--lease-seconds 15] [--outside HOST:PORT of a proxy for its own requests]",
  );
  process.exit(2);
}
mkdirSync(values.storage, { recursive: true });
const running = await start(
  {
    nodes: {
      "vps-01": { address: "192.0.2.1", leader: "https://vps-01.example.com/leader" },
      "vps-02": { address: "192.0.2.2", leader: "https://vps-02.example.com/leader" },
    },
    leaseSeconds: Number(values["lease-seconds"]),
    nodeTokens: { "vps-01": [TOKEN_VPS_01], "vps-02": [TOKEN_VPS_02] },
    operatorToken: TOKEN_OPERATOR,
    zone: null,
  },
  { storage: values.storage, port: Number(values.port), outside: values.outside },
);
console.log(`witness: ${running.url}   a minute passes: curl -X POST ${running.cronUrl}`);
for (const signal of /** @type {const} */ (["SIGINT", "SIGTERM"])) {
  process.once(signal, () => void running.stop().then(() => process.exit(0)));
}
