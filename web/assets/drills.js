// @ts-check
/**
 * Drills under `chorus up`: what a button of the page does to a node.
 * @module
 */

import { ask } from "./reach.js";

/** @typedef {import("./connection.js").Connection} Connection */

/**
 * Asks a node other than the one that it is about, which may not live to answer. Where that cannot be, the form goes its
 * own way.
 * @param {SubmitEvent} submit
 * @param {Connection} connection
 */
export async function drill(submit, connection) {
  const form = /** @type {HTMLFormElement} */ (submit.target);
  const button = /** @type {HTMLButtonElement|null} */ (submit.submitter);
  if (!button || connection.phase !== "open") return;
  submit.preventDefault();
  const fields = new URLSearchParams();
  for (const [name, value] of new FormData(form, button)) fields.set(name, String(value));
  const node = fields.get("node") ?? "";
  tell(`${node}: …`, true);
  try {
    const answer = await ask(asked(connection, node), "/cluster/drill", {
      method: "POST",
      headers: { Accept: "application/json" },
      body: fields,
      signal: AbortSignal.timeout(20_000),
    });
    const { detail } = await answer.json();
    tell(`${node}: ${detail}`, answer.ok);
  } catch {
    tell(`${node}: nobody answered; the table shows what became of it.`, false);
  }
}

/** @param {Connection} connection @param {string} node @returns {string} */
function asked(connection, node) {
  const own = connection.peers.find((peer) => peer.name === node)?.url;
  if (own !== connection.url) return connection.url;
  return connection.peers.find((peer) => peer.url !== own)?.url ?? connection.url;
}

/** @param {string} text @param {boolean} good */
function tell(text, good) {
  const place = /** @type {HTMLElement} */ (document.getElementById("drilled"));
  place.hidden = false;
  place.className = good ? "good" : "trouble";
  place.textContent = text;
}
