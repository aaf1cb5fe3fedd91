// @ts-check
/**
 * What the page says, in words. Pure.
 * @module
 */

/**
 * @typedef {object} Link
 * @property {"open"|"waiting"|"connecting"} phase
 * @property {boolean} live the node has answered our resume
 * @property {string|null} node
 * @property {string|null} leader
 * @property {number} term
 * @property {number} as_of_ms when anything was heard last, in Unix time
 * @property {boolean} online what the browser thinks of its network
 */

/**
 * @param {Link} link
 * @param {(ms: number) => string} clock how to say a time of day
 * @returns {{level: "live"|"readonly"|"waiting"|"offline", words: string}}
 */
export function state(link, clock) {
  if (link.phase === "open" && link.live) {
    if (link.leader === null) return { level: "readonly", words: `Connected to ${link.node}, read-only: no leader, no majority` };
    return { level: "live", words: `Connected to ${link.node}, leader ${link.leader}, term ${link.term}` };
  }
  const since = `As of ${clock(link.as_of_ms)}`;
  if (!link.online) return { level: "offline", words: `${since}, offline` };
  return { level: "waiting", words: `${since}, reconnecting` };
}

/** Controls that are no line break or tab, and those that turn the direction of what follows (Unicode's UAX 9). */
const UNSEEN = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** A text in which nothing acts unseen. @param {string} text @returns {string} */
export function visible(text) {
  return text.replace(UNSEEN, (sign) => `⟨U+${sign.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
}

/** @param {number} wait_ms @returns {string} */
export function countdown(wait_ms) {
  return wait_ms <= 0 ? "now" : `in ${Math.ceil(wait_ms / 1_000)} s`;
}

/** @param {number} count @returns {string} */
export function fresh(count) {
  return `${count} new`;
}

/**
 * A UUID of version 7 (RFC 9562): time first, then chance.
 * @param {number} now_ms
 * @param {Uint8Array} chance 10 random bytes
 * @returns {string}
 */
export function uuid7(now_ms, chance) {
  const bytes = new Uint8Array(16);
  for (let place = 5, left = now_ms; place >= 0; place -= 1, left = Math.floor(left / 256)) bytes[place] = left % 256;
  bytes.set(chance.subarray(0, 10), 6);
  bytes[6] = (bytes[6] & 0x0f) | 0x70;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

/**
 * How far the clock of whoever said a moment is ahead of the one here.
 * @param {string} said a moment as programs write it (RFC 3339)
 * @param {number} here_ms when it was said, by the clock here
 * @returns {number} milliseconds; 0 if nothing was said
 */
export function ahead(said, here_ms) {
  const said_ms = Date.parse(said);
  return Number.isNaN(said_ms) ? 0 : Math.round(said_ms - here_ms);
}

/**
 * Milliseconds since a node was heard, in words, and by which way if it is not the usual one.
 * @param {number|null} ms
 * @param {string} [by] `multicast` or `unicast`
 * @returns {string}
 */
export function heard(ms, by) {
  if (ms === null) return "never";
  const ago = ms < 10_000 ? `${(Math.floor(ms / 100) / 10).toFixed(1)} s ago` : `${Math.floor(ms / 1_000)} s ago`;
  return by === "unicast" ? `${ago}, by unicast` : ago;
}

/** @typedef {{rounds: number, missed: number}} Rounds */

/** What was lost of what a node said, if it says what can be counted. @param {Rounds|null} link @returns {string} */
export function lost(link) {
  return link && link.rounds > 0 ? `${Math.floor((link.missed * 100) / link.rounds)} % of ${link.rounds}` : "–";
}

/**
 * How well one node hears another.
 * @param {{heard_ms: number|null, heard_by?: string}|null} node as the hearer sees it; none if the hearer does not say
 * @param {Rounds|null} rounds
 * @returns {{text: string, level: "good"|"weak"|"none"|"unknown"}}
 */
export function link(node, rounds) {
  if (node === null) return { text: "?", level: "unknown" };
  if (node.heard_ms === null || node.heard_ms >= 3_000) return { text: node.heard_ms === null ? "never" : `not for ${Math.floor(node.heard_ms / 1_000)} s`, level: "none" };
  const share = rounds && rounds.rounds > 0 ? (rounds.missed * 100) / rounds.rounds : 0;
  const parts = [node.heard_by === "unicast" ? "by unicast" : "yes"];
  if (rounds && rounds.rounds > 0) parts.push(`${Math.floor(share)} % lost`);
  return { text: parts.join(", "), level: share >= 5 || node.heard_by === "unicast" ? "weak" : "good" };
}

/** How long somebody led. @param {number|null} ms none: still @returns {string} */
export function lasted(ms) {
  return ms === null ? "leads now" : `led for ${span(ms)}`;
}

/** How long nobody led before. @param {number|null} ms @returns {string} */
export function without(ms) {
  return ms === null ? "" : `after ${span(ms)} without a leader`;
}

/** @param {number} ms @returns {string} */
function span(ms) {
  if (ms < 1_000) return `${Math.max(0, ms)} ms`;
  if (ms < 120_000) return `${(ms / 1_000).toFixed(1)} s`;
  return ms < 7_200_000 ? `${Math.floor(ms / 60_000)} min` : `${Math.floor(ms / 3_600_000)} h`;
}
