// @ts-check
/**
 * Where things are on the picture of the cluster, and what they mean. Pure.
 * @module
 */

/** @typedef {{x: number, y: number}} Point */

/** The picture's own units. */
export const WIDTH = 640;
export const HEIGHT = 470;
/** Entries of a log's end that a strip shows. */
export const STRIP = 12;

const CENTRE = { x: WIDTH / 2, y: 208 };
const REACH = { x: 225, y: 138 };

/**
 * Where each of so many nodes stands: on a ring, the first one on top, then clockwise.
 * @param {number} count
 * @returns {Point[]}
 */
export function places(count) {
  return Array.from({ length: count }, (_, place) => {
    const angle = (place / Math.max(1, count)) * 2 * Math.PI - Math.PI / 2;
    return { x: CENTRE.x + (count > 1 ? REACH.x * Math.cos(angle) : 0), y: CENTRE.y + (count > 1 ? REACH.y * Math.sin(angle) : 0) };
  });
}

/** The radius of a node among so many. @param {number} count @returns {number} */
export function radius(count) {
  return Math.max(12, Math.min(30, 170 / Math.max(1, count)));
}

/**
 * From rim to rim, not from centre to centre.
 * @param {Point} from
 * @param {Point} to
 * @param {number} rim
 * @returns {[Point, Point]}
 */
export function path(from, to, rim) {
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const length = Math.hypot(dx, dy) || 1;
  const [ux, uy] = [(dx / length) * rim, (dy / length) * rim];
  return [{ x: from.x + ux, y: from.y + uy }, { x: to.x - ux, y: to.y - uy }];
}

/** A point on the way. @param {[Point, Point]} path @param {number} share 0 to 1 @returns {Point} */
export function along([from, to], share) {
  return { x: from.x + (to.x - from.x) * share, y: from.y + (to.y - from.y) * share };
}

/**
 * The end of a log: entries with their index, as far as the node has them.
 * @param {{last_index: number, commit_index: number, applied_index: number}} node
 * @param {number} last the last index that anybody has
 * @returns {{index: number, state: "applied"|"committed"|"stored"|"missing"}[]} oldest first
 */
export function strip({ last_index, commit_index, applied_index }, last) {
  const first = Math.max(1, last - STRIP + 1);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, place) => {
    const index = first + place;
    if (index > last_index) return { index, state: /** @type {const} */ ("missing") };
    if (index <= applied_index) return { index, state: /** @type {const} */ ("applied") };
    return { index, state: index <= commit_index ? /** @type {const} */ ("committed") : /** @type {const} */ ("stored") };
  });
}

/** What the arrow of a message looks like. @param {string} message @returns {"heartbeat"|"reply"|"vote"|"other"} */
export function kind(message) {
  if (["HEARTBEAT", "PART", "CATCHUP"].includes(message)) return "heartbeat";
  if (["APPEND_REPLY", "DONE", "READ_INDEX", "LEADER_INFO"].includes(message)) return "reply";
  if (["VOTECONSENSUS", "CONSENT", "VOTEME", "LEADME", "!LEADME", "RESIGN"].includes(message)) return "vote";
  return "other";
}

/**
 * @typedef {{message: string, received: boolean, peer: string|null, direct: boolean, ago_ms: number}} Flight
 * @typedef {{message: string, from: string, to: string, ago_ms: number}} Arrow by names of nodes
 */

/**
 * The arrows of one datagram: what goes to the group goes to everyone.
 * @param {Flight} flight
 * @param {string} watched the name of the node that sent or received it
 * @param {{name: string, id: string}[]} nodes
 * @returns {Arrow[]}
 */
export function arrows({ message, received, peer, ago_ms }, watched, nodes) {
  const name = nodes.find(({ id }) => id === peer)?.name;
  if (received) return name === undefined ? [] : [{ message, from: name, to: watched, ago_ms }];
  if (peer !== null) return name === undefined ? [] : [{ message, from: watched, to: name, ago_ms }];
  return nodes.filter((node) => node.name !== watched).map((node) => ({ message, from: watched, to: node.name, ago_ms }));
}

/**
 * @typedef {{at_ms: number, term: number, leader: string|null}} Reign
 * @typedef {{at_ms: number, term: number, leader: string, without_ms: number|null, lasted_ms: number|null}} Led
 *   `without_ms`: nobody led for so long before; `lasted_ms`: none for who leads now
 */

/**
 * Who led, newest first, with how long nobody did before.
 * @param {Reign[]} reigns oldest first
 * @returns {Led[]}
 */
export function timeline(reigns) {
  /** @type {Led[]} */
  const led = [];
  /** @type {number|null} */
  let alone_ms = null;
  for (const [place, { at_ms, term, leader }] of reigns.entries()) {
    if (leader === null) {
      alone_ms ??= at_ms;
      continue;
    }
    const next = reigns[place + 1];
    led.push({ at_ms, term, leader, without_ms: alone_ms === null ? null : at_ms - alone_ms, lasted_ms: next ? next.at_ms - at_ms : null });
    alone_ms = null;
  }
  return led.reverse();
}
