// @ts-check
/**
 * The shelf, alive: what is left of each title, and a purchase that needs no new page.
 * @module
 */

import { say } from "./dom.js";
import { follow, read } from "./live.js";
import { shown } from "./money.js";
import { ask } from "./reach.js";
import { uuid7 } from "./words.js";

const board = /** @type {HTMLElement} */ (document.getElementById("board"));
const shelf = /** @type {HTMLElement} */ (document.getElementById("shelf"));
const news = document.getElementById("news");
const topic = board.dataset.topic ?? "";
const currency = board.dataset.currency ?? "";

const connection = follow({ topics: ["books"], apply: (change) => show(change.item, true), refetch });
shelf.addEventListener("submit", buy);

/** @param {string} url @returns {Promise<number>} */
async function refetch(url) {
  const path = topic ? `/api/v1/books?limit=500&topic=${encodeURIComponent(topic)}` : "/api/v1/books?limit=500";
  const list = await read(url, path);
  for (const book of list.books) show(book, false);
  return list.seq;
}

/** @param {any} book @param {boolean} told */
function show(book, told) {
  const item = shelf.querySelector(`[data-id="${CSS.escape(String(book.id))}"]`);
  if (!item) {
    // A title that is new, or that has come to this topic: the page knows how to show it.
    if (told && (!topic || topic === book.topic)) location.reload();
    return;
  }
  const stock = /** @type {HTMLElement} */ (item.querySelector(".stock"));
  const left = book.stock === 0 ? "Sold out" : `${book.stock} left`;
  if (stock.textContent !== left && told) say(news, `${book.title}: ${left}`);
  stock.dataset.stock = String(book.stock);
  say(stock, left);
  say(item.querySelector("h3 a"), book.title);
  say(item.querySelector(".price"), `${shown(book.cost_minor, currency)} ${currency}`);
  item.classList.toggle("sold-out", book.stock === 0);
  const button = /** @type {HTMLButtonElement} */ (item.querySelector("button"));
  button.disabled = book.stock === 0;
}

/** Buys without leaving the page; where that fails for want of a connection, the form goes its own way. @param {SubmitEvent} submit */
async function buy(submit) {
  const form = /** @type {HTMLFormElement} */ (submit.target);
  const item = /** @type {HTMLElement} */ (form.closest("li"));
  if (connection.phase !== "open") return;
  submit.preventDefault();
  const button = /** @type {HTMLButtonElement} */ (form.querySelector("button"));
  button.disabled = true;
  const id = /** @type {HTMLInputElement} */ (form.elements.namedItem("id"));
  try {
    const answer = await ask(connection.url, `/api/v1/books/${item.dataset.id}/purchase`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "Idempotency-Key": id.value },
      body: "{}",
      signal: AbortSignal.timeout(10_000),
    });
    const said = await answer.json();
    if (answer.ok) told(item, "Bought: one copy is yours.", true);
    else if (said.code === "out_of_stock") told(item, "Sorry: the last copy was sold a moment ago. Nothing was bought.", false);
    else told(item, `Not bought. ${said.detail}`, false);
    // Nobody knows what became of it: only the same id makes another try harmless.
    if (said.code !== "outcome_unknown" && !(answer.status === 503)) id.value = uuid7(Date.now(), crypto.getRandomValues(new Uint8Array(10)));
  } catch {
    told(item, "Nobody answered. Press again: it is bought once only.", false);
  }
  button.disabled = item.classList.contains("sold-out");
}

/** @param {HTMLElement} item @param {string} text @param {boolean} good */
function told(item, text, good) {
  let line = item.querySelector(".said");
  if (!line) {
    line = document.createElement("p");
    line.setAttribute("role", "status");
    item.append(line);
  }
  line.className = good ? "said good" : "said trouble";
  say(line, text);
}
