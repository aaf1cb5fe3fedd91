// @ts-check
/**
 * When to try again, and where. Pure: time and chance are arguments.
 * @module
 */

/** @typedef {{name: string, url: string}} Peer A node and where its pages are. */

/** Waits grow from here, in milliseconds. */
const FIRST_MS = 150;
/** And never beyond this. */
const LONGEST_MS = 5_000;
/** Nodes remembered at most. */
const PEERS_MAX = 64;

/**
 * How long to wait before attempt `failures + 1`. The first node lost is left at once; every node is asked once
 * before waits grow, so that a page moves within a moment when its own node is gone.
 * @param {number} failures attempts that failed in a row
 * @param {number} nodes how many nodes there are to ask
 * @param {number} chance 0 to 1, so that pages do not all come back together
 * @returns {number} milliseconds
 */
export function waitMs(failures, nodes, chance) {
  if (failures <= 0) return 0;
  const rounds = Math.floor((failures - 1) / Math.max(1, nodes));
  if (rounds === 0) return Math.round(FIRST_MS * (0.5 + chance / 2));
  const grown = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(rounds + 1, 10));
  return Math.round(grown * (0.5 + chance / 2));
}

/**
 * Which node to ask: the one that was heard last, then the others in turn, and round again.
 * @param {Peer[]} peers
 * @param {string} last the URL that was connected last
 * @param {number} failures attempts that failed in a row
 * @returns {string} its URL
 */
export function target(peers, last, failures) {
  const others = peers.map((peer) => peer.url).filter((url) => url !== last);
  const ring = [last, ...others];
  return ring[failures % ring.length];
}

/**
 * Nodes known from before and those just named, each once by name; what is new wins.
 * @param {Peer[]} known
 * @param {Peer[]} named
 * @returns {Peer[]}
 */
export function merge(known, named) {
  if (named.length === 0) return known;
  const byName = new Map(known.map((peer) => [peer.name, peer]));
  for (const { name, url } of named) {
    const origin = originOf(url);
    if (origin !== null) byName.set(name, { name, url: origin });
  }
  return [...byName.values()].slice(-PEERS_MAX);
}

/** @param {string} url @returns {string|null} */
function originOf(url) {
  try {
    return new URL(url).origin;
  } catch {
    return null;
  }
}
