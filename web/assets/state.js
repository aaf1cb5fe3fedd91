// @ts-check
/**
 * The line under the page's head: whom it is connected to, and how old what it shows is.
 * @module
 */

import * as words from "./words.js";

/** @typedef {import("./words.js").Link} Link */

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const line = /** @type {HTMLElement} */ (document.getElementById("state"));
const said = /** @type {HTMLElement} */ (document.getElementById("state-words"));
const wait = /** @type {HTMLElement} */ (document.getElementById("state-wait"));
const count = /** @type {HTMLElement} */ (document.getElementById("state-countdown"));

/**
 * Says the state. What is unchanged is not touched: a live region would say it again.
 * @param {Link} link
 * @param {number} next_ms when the next attempt is made, in Unix time
 */
export function show(link, next_ms) {
  const state = words.state(link, (ms) => clock.format(ms));
  if (line.dataset.level !== state.level) line.dataset.level = state.level;
  if (said.textContent !== state.words) said.textContent = state.words;
  const waiting = link.phase !== "open";
  if (wait.hidden === waiting) wait.hidden = !waiting;
  const text = link.phase === "waiting" ? words.countdown(next_ms - Date.now()) : "now";
  if (waiting && count.textContent !== text) count.textContent = text;
}

/** @param {() => void} act */
export function onRetry(act) {
  document.getElementById("retry")?.addEventListener("click", act);
}

const dated = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

/** Says moments in the reader's own time. @param {ParentNode} within */
export function localize(within) {
  for (const time of within.querySelectorAll("time[datetime]")) {
    const at = new Date(time.getAttribute("datetime") ?? "");
    if (!Number.isNaN(at.getTime())) time.textContent = dated.format(at);
  }
}
