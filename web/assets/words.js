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
 * Milliseconds since a node was heard, in words.
 * @param {number|null} ms
 * @returns {string}
 */
export function heard(ms) {
  if (ms === null) return "never";
  return ms < 10_000 ? `${(Math.floor(ms / 100) / 10).toFixed(1)} s ago` : `${Math.floor(ms / 1_000)} s ago`;
}
