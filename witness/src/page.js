/**
 * The page of history for people.
 *
 * @import { FullView, View } from "./arbiter.js"
 */

const STYLE = `
  body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem }
  table { border-collapse: collapse; width: 100% }
  th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #8884 }
  .bad { color: #b00020; font-weight: 600 }
  @media (prefers-color-scheme: dark) { body { background: #111; color: #ddd } .bad { color: #ff6b7a } }
`;

/**
 * @param {FullView} view
 * @returns {string} HTML.
 */
export function page(view) {
  const holder = view.holder
    ? `<b>${escaped(view.holder)}</b> holds the lease, epoch ${view.epoch}, ` +
      `for another ${seconds(view.expires_in_ms)} s`
    : `<span class="bad">Nobody holds the lease.</span> The last one was ` +
      `${escaped(view.last_holder ?? "nobody")}, epoch ${view.epoch}`;
  const rows = view.history.map(
    (entry) =>
      `<tr><td>${escaped(entry.at)}</td><td>${entry.epoch}</td>` +
      `<td>${escaped(entry.node ?? "")}</td><td>${escaped(entry.reason)}</td></tr>`,
  );
  return `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Overlord: who is primary</title>
<meta name="viewport" content="width=device-width"><style>${STYLE}</style></head>
<body>
<h1>Who is primary</h1>
<p>${holder}.</p>
<p>Replication: <b>${escaped(view.replication)}</b>. ${steering(view.steering)}</p>
<p>Check from outside: ${escaped(view.health.detail)}.</p>
<h2>History</h2>
<table><thead><tr><th>when</th><th>epoch</th><th>node</th><th>what</th></tr></thead>
<tbody>${rows.join("\n")}</tbody></table>
</body></html>
`;
}

/** @param {View["steering"]} state */
function steering(state) {
  if (state.mode === "none") return "The load balancer steers the public name.";
  if (state.agrees) return `The public name leads to <b>${escaped(state.wanted ?? "nobody")}</b>.`;
  const error = state.error ? `: ${escaped(state.error)}` : "";
  return `<span class="bad">The public name does not lead to ${escaped(state.wanted ?? "nobody")} yet</span>${error}.`;
}

/** @param {number} milliseconds */
function seconds(milliseconds) {
  return (milliseconds / 1000).toFixed(1);
}

/** @param {string} text */
function escaped(text) {
  const entities = /** @type {Record<string, string>} */ ({
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
    "'": "&#39;",
  });
  return String(text).replace(/[&<>"']/g, (character) => entities[character] ?? "");
}
