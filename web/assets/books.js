// @ts-check
/**
 * The shelf, alive: what is left of each title, and a purchase that needs no new page.
 * @module
 */

import { draw } from "./clock.js";
import { element, say } from "./dom.js";
import { follow, read } from "./live.js";
import { shown } from "./money.js";
import { ask } from "./reach.js";

/** @typedef {{id: number, title: string, topic: string, cost_minor: number, stock: number}} Book */

/** Titles on one page. */
const SHOWN_MAX = 500;
/** Topics to choose from. */
const TOPICS_MAX = 200;
/** Answers that say what became of a purchase, or that nobody will know any more. */
const DECIDED = [201, 404, 409, 410, 422];

const board = /** @type {HTMLElement} */ (document.getElementById("board"));
const shelf = /** @type {HTMLElement} */ (document.getElementById("shelf"));
const blank = /** @type {HTMLTemplateElement} */ (document.getElementById("title"));
const next = /** @type {HTMLAnchorElement} */ (document.getElementById("next"));
const topics = /** @type {HTMLElement} */ (document.getElementById("topics"));
const news = document.getElementById("news");
const topic = board.dataset.topic ?? "";
const after = board.dataset.after ?? "";
const currency = board.dataset.currency ?? "";
const known = new Set([...topics.querySelectorAll("a")].map((link) => new URL(link.href).searchParams.get("topic")));

const connection = follow({ topics: ["books"], apply, refetch });
shelf.addEventListener("submit", buy);

/** @param {import("./feed.js").Item} change */
function apply(change) {
  const book = /** @type {Book} */ (change.item);
  const before = rowOf(book.id)?.querySelector(".stock")?.textContent;
  show(book);
  if (before !== undefined && before !== left(book)) say(news, `${book.title}: ${left(book)}`);
}

/** @param {string} url @returns {Promise<number>} */
async function refetch(url) {
  const query = new URLSearchParams({ limit: String(SHOWN_MAX) });
  if (topic) query.set("topic", topic);
  if (after) query.set("after", after);
  const list = await read(url, `/api/v1/books?${query}`);
  const there = new Set(list.books.map((/** @type {Book} */ book) => String(book.id)));
  for (const item of rows()) if (!there.has(item.dataset.id ?? "")) item.remove();
  next.hidden = true;
  list.books.forEach(show);
  goOn(list.next);
  return list.seq;
}

/** @returns {HTMLElement[]} */
function rows() {
  return /** @type {HTMLElement[]} */ ([...shelf.children]);
}

/** @param {number} id */
function rowOf(id) {
  return /** @type {HTMLElement|null} */ (shelf.querySelector(`[data-id="${CSS.escape(String(id))}"]`));
}

/** @param {Book} book */
function left({ stock }) {
  return stock === 0 ? "Sold out" : `${stock} left`;
}

/** A title as it is now, if its place is on this page. @param {Book} book */
function show(book) {
  showTopic(book.topic);
  if (topic && topic !== book.topic) return rowOf(book.id)?.remove();
  const item = rowOf(book.id) ?? newRow(book);
  if (!item) return;
  const link = /** @type {HTMLAnchorElement} */ (item.querySelector("h3 a"));
  const stock = /** @type {HTMLElement} */ (item.querySelector(".stock"));
  say(link, book.title);
  say(item.querySelector(".meta"), `${book.topic} · title ${book.id}`);
  say(item.querySelector(".price"), `${shown(book.cost_minor, currency)} ${currency}`);
  say(stock, left(book));
  stock.dataset.stock = String(book.stock);
  say(item.querySelector("button span"), ` ${book.title}`);
  item.classList.toggle("sold-out", book.stock === 0);
  const button = /** @type {HTMLButtonElement} */ (item.querySelector("button"));
  button.disabled = book.stock === 0;
}

/** A row for a title that is not shown yet; none if its place is on another page. @param {Book} book @returns {HTMLElement|null} */
function newRow(book) {
  const behind = rows().find((item) => Number(item.dataset.id) > book.id) ?? null;
  if (book.id <= Number(after || 0) || (behind === null && !next.hidden)) return null;
  const item = /** @type {HTMLElement} */ (blank.content.firstElementChild?.cloneNode(true));
  item.id = `b${book.id}`;
  item.dataset.id = String(book.id);
  /** @type {HTMLAnchorElement} */ (item.querySelector("h3 a")).href = `/books/${book.id}`;
  const form = /** @type {HTMLFormElement} */ (item.querySelector("form"));
  form.action = `/books/${book.id}/purchase`;
  /** @type {HTMLInputElement} */ (form.elements.namedItem("id")).value = draw();
  shelf.insertBefore(item, behind);
  /** @type {HTMLElement} */ (document.getElementById("empty")).hidden = true;
  if (rows().length > SHOWN_MAX) {
    shelf.lastElementChild?.remove();
    goOn(/** @type {HTMLElement} */ (shelf.lastElementChild).dataset.id ?? null);
  }
  return item.isConnected ? item : null;
}

/** Where the shelf goes on; nowhere, if this is all. @param {string|null} last the last title here */
function goOn(last) {
  next.hidden = last === null;
  const query = new URLSearchParams(topic ? { topic } : {});
  query.set("after", last ?? "");
  next.href = `/books?${query}`;
}

/** A topic that nothing was about before is one to choose. @param {string} name */
function showTopic(name) {
  if (known.has(name) || known.size > TOPICS_MAX) return;
  known.add(name);
  topics.append(element("li", {}, element("a", { href: `/books?${new URLSearchParams({ topic: name })}` }, name)));
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
  // An id that was sent stands for its purchase until somebody knows what became of it: only the same one makes another
  // try harmless. One that was not may be as old as the page.
  if (form.dataset.asked === undefined) id.value = draw();
  form.dataset.asked = "true";
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
    if (DECIDED.includes(answer.status)) delete form.dataset.asked;
  } catch {
    told(item, "Nobody answered. Press again: it is bought once only.", false);
  }
  // Whoever goes another way from here asks for another copy.
  if (form.dataset.asked === undefined) id.value = draw();
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
