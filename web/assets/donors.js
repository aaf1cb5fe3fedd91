// @ts-check
/**
 * The donors' table, alive. Totals and order are the node's to know: when something changed, what is shown is read again.
 * @module
 */

import { element, say } from "./dom.js";
import { follow, read } from "./live.js";
import { shown } from "./money.js";
import { localize } from "./state.js";

/** Changes that come together are one reading. */
const GATHER_MS = 150;

const board = /** @type {HTMLElement} */ (document.getElementById("board"));
const rows = /** @type {HTMLTableSectionElement} */ (document.getElementById("rows"));
const next = /** @type {HTMLAnchorElement} */ (document.getElementById("next"));
const sort = board.dataset.sort ?? "newest";
const first = board.dataset.first === "true";
/** @type {number|undefined} */
let waiting;

const connection = follow({ topics: ["donors"], apply, refetch });

/** @param {import("./feed.js").Item} change */
function apply(change) {
  const { imported, name } = change.item;
  say(document.getElementById("news"), imported ? `${imported} donors were added` : `${name} was added`);
  waiting ??= window.setTimeout(again, GATHER_MS);
}

async function again() {
  waiting = undefined;
  try {
    await refetch(connection.url);
  } catch {
    // The next change, or the next connection, reads it.
  }
}

/** @param {string} url @returns {Promise<number>} */
async function refetch(url) {
  // A page in the middle stands still, but for the totals.
  const list = await read(url, `/api/v1/donors?limit=${first ? 50 : 1}&sort=${encodeURIComponent(sort)}`);
  showTotals(list.totals);
  if (first) {
    rows.replaceChildren(...list.items.map(row));
    localize(rows);
    next.hidden = list.next === null;
    next.href = `/donors?sort=${encodeURIComponent(sort)}&after=${encodeURIComponent(list.next ?? "")}`;
    /** @type {HTMLElement} */ (document.getElementById("empty")).hidden = list.items.length > 0;
  }
  return list.seq;
}

/** @param {{currency: string, donors: number, amount_minor: number}[]} totals */
function showTotals(totals) {
  const total = (/** @type {typeof totals[0]} */ one) =>
    element("span", { className: "total" }, element("strong", {}, `${shown(one.amount_minor, one.currency)} ${one.currency}`), ` by ${one.donors}`);
  const place = /** @type {HTMLElement} */ (document.getElementById("totals"));
  if (totals.length === 0) place.textContent = "Nothing was given yet.";
  else place.replaceChildren(...totals.map(total));
}

/** @param {any} donor @returns {HTMLTableRowElement} */
function row(donor) {
  const time = element("time", { dateTime: new Date(donor.at_ms).toISOString() });
  const made = element(
    "tr",
    {},
    cell("th", "Name", donor.name),
    cell("td", "Email", donor.email),
    cell("td", "Amount", `${shown(donor.amount_minor, donor.currency)} ${donor.currency}`),
    cell("td", "When", time),
    cell("td", "By way of", `${donor.node} · entry ${donor.seq}`),
  );
  made.cells[2].className = "number";
  made.setAttribute("role", "row");
  made.dataset.id = donor.id;
  return made;
}

/** @param {"th"|"td"} tag @param {string} label @param {Node|string} text */
function cell(tag, label, text) {
  const made = element(tag, {}, text);
  made.setAttribute("role", tag === "th" ? "rowheader" : "cell");
  if (tag === "th") made.setAttribute("scope", "row");
  made.dataset.label = label;
  return made;
}
