// @ts-check
/**
 * A page about one record, or a list that is read and not written to: it says how old it is, and shows anew what has changed.
 * @module
 */

import { element } from "./dom.js";
import { follow, read } from "./live.js";

/** Changes that come together are shown together. */
const GATHER_MS = 500;
/** While changes keep coming the page stands still for so long between two times that it shows itself anew. */
const STILL_MS = 10_000;
/** When it last did, in Unix time. */
const RENEWED_KEY = "chorus.renewed";

const board = /** @type {HTMLElement} */ (document.getElementById("record"));
const topic = board.dataset.topic ?? "";
/** The member of a change that says which record it is about, and the value of those that concern this page; none: all do. */
const { member = "", concerns = "", path = location.pathname + location.search } = board.dataset;
/** What has changed was decided a moment ago. */
let due = false;

const connection = follow({ topics: [topic], apply, refetch });

/** @param {import("./feed.js").Item} change */
function apply(change) {
  if (due || (concerns !== "" && String(change.item[member]) !== concerns)) return;
  // What is older does not change.
  if (board.dataset.still !== undefined) return;
  due = true;
  setTimeout(renew, GATHER_MS);
}

/** After a reset nobody knows what has changed. @param {string} url @returns {Promise<number>} */
async function refetch(url) {
  const { seq } = await read(url, `/api/v1/${topic}?limit=1`);
  renew();
  return seq;
}

/** Shows the page as it is now, at whichever node answers; who is writing or reading in it decides for himself. */
function renew() {
  const wait_ms = Math.min(STILL_MS, renewed_ms() + STILL_MS - Date.now());
  if (!isInUse() && wait_ms <= 0) return showAnew();
  tell();
  if (!isInUse()) setTimeout(renew, wait_ms);
}

function showAnew() {
  try {
    sessionStorage.setItem(RENEWED_KEY, String(Date.now()));
  } catch {
    // A browser that keeps nothing: its page counts as shown anew when it came.
  }
  location.replace(now());
}

function renewed_ms() {
  try {
    return Number(sessionStorage.getItem(RENEWED_KEY) ?? 0);
  } catch {
    return performance.timeOrigin;
  }
}

function now() {
  return new URL(path, connection.url);
}

function tell() {
  const place = /** @type {HTMLElement} */ (document.getElementById("changed"));
  if (!place.hidden) return;
  place.replaceChildren("This has changed meanwhile. ", element("a", { href: now().href, className: "plain" }, "Show it as it is now"));
  place.hidden = false;
}

/** Showing it anew would take away what somebody typed, also where that is shown again, or where he is on the page. */
function isInUse() {
  const fields = /** @type {NodeListOf<HTMLInputElement>} */ (document.querySelectorAll("main input:not([type=hidden]), main textarea"));
  const choices = /** @type {NodeListOf<HTMLOptionElement>} */ (document.querySelectorAll("main option"));
  return (
    board.dataset.typed !== undefined ||
    [...fields].some((field) => field.value !== field.defaultValue) ||
    [...choices].some((choice) => choice.selected !== choice.defaultSelected) ||
    board.contains(document.activeElement) ||
    scrollY > 0
  );
}
