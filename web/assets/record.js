// @ts-check
/**
 * A page about one record, or a list that is read and not written to: it says how old it is, and shows anew what has changed.
 * @module
 */

import { element } from "./dom.js";
import { follow, read } from "./live.js";

/** Changes that come together are shown together. */
const GATHER_MS = 500;

const board = /** @type {HTMLElement} */ (document.getElementById("record"));
const topic = board.dataset.topic ?? "";
/** The member of a change that says which record it is about, and the value of those that concern this page; none: all do. */
const { member = "", concerns = "" } = board.dataset;
/** What has changed was decided a moment ago. */
let due = false;

const connection = follow({ topics: [topic], apply, refetch });

/** @param {import("./feed.js").Item} change */
function apply(change) {
  if (due || (concerns !== "" && String(change.item[member]) !== concerns)) return;
  due = true;
  setTimeout(renew, GATHER_MS);
}

/** After a reset nobody knows what has changed. @param {string} url @returns {Promise<number>} */
async function refetch(url) {
  const { seq } = await read(url, `/api/v1/${topic}?limit=1`);
  renew();
  return seq;
}

/** Shows the page as it is now, at whichever node answers; who is writing in it decides for himself. */
function renew() {
  const now = new URL(location.pathname + location.search, connection.url);
  if (!isWrittenIn()) {
    location.replace(now);
    return;
  }
  const place = /** @type {HTMLElement} */ (document.getElementById("changed"));
  place.replaceChildren("This has changed meanwhile. ", element("a", { href: now.href, className: "plain" }, "Show it as it is now"));
  place.hidden = false;
}

function isWrittenIn() {
  const fields = /** @type {NodeListOf<HTMLInputElement>} */ (document.querySelectorAll("main input:not([type=hidden]), main textarea"));
  return [...fields].some((field) => field.value !== field.defaultValue || field === document.activeElement);
}
