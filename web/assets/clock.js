// @ts-check
/**
 * The cluster's time, as the node had it that rendered the page: a browser whose clock is wrong names its requests all the
 * same so that they count as made now.
 * @module
 */

import { ahead, uuid7 } from "./words.js";

const said = document.querySelector("#state-words time")?.getAttribute("datetime") ?? "";
const [loaded] = /** @type {PerformanceNavigationTiming[]} */ (performance.getEntriesByType("navigation"));
/** What came out of the browser's own cache was said at any time. */
const ahead_ms = (loaded?.transferSize ?? 0) > 0 ? ahead(said, performance.timeOrigin) : 0;

/** The cluster's time in milliseconds of Unix time. */
export function now() {
  return Date.now() + ahead_ms;
}

/** An id that nobody has used. */
export function draw() {
  return uuid7(now(), crypto.getRandomValues(new Uint8Array(10)));
}
