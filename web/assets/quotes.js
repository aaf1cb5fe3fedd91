// @ts-check
/**
 * The quote board, alive: new quotes as they are applied, posts that survive the death of a node.
 * @module
 */

import { draw } from "./clock.js";
import { element, forget, keep as store, kept, keptUnder, say } from "./dom.js";
import { follow, read } from "./live.js";
import * as mail from "./outbox.js";
import * as state from "./state.js";
import * as words from "./words.js";

/** Quotes on the page at most; older ones stay behind the link. */
const SHOWN_MAX = 300;
/** Rows made at once: what a slow machine makes within a frame. */
const ROWS_AT_ONCE = 25;
/** Where posts wait over reloads, each under its id. */
const OUTBOX_KEY = "chorus.outbox.";
const AUTHOR_KEY = "chorus.author";

/** @param {string} id @returns {any} */
const $ = (id) => document.getElementById(id);
const list = /** @type {HTMLOListElement} */ ($("quotes"));
const form = /** @type {HTMLFormElement} */ ($("compose"));
const older = /** @type {HTMLAnchorElement} */ ($("older"));
const fresh = /** @type {HTMLButtonElement} */ ($("fresh"));
const newest = $("board").dataset.newest === "true";

let outbox = mail.restore(keptUnder(OUTBOX_KEY), Date.now());
/** The rows of the posts on their way: what has not changed keeps its row, and whatever there has the focus. @type {Map<mail.Post, HTMLLIElement>} */
let onTheWay = new Map();
/** The node that was heard last; none yet: the form knows its own way. @type {string|null} */
let node = null;
/** The node has answered: posts can be sent. */
let isLive = false;
/** Quotes that came while the reader was further down. @type {any[]} */
let unseen = [];
/** Quotes that came faster than they are shown. @type {any[]} */
let arriving = [];
let arrival = false;

const connection = follow({ topics: ["quotes"], apply, refetch, heed, changed });
fresh.addEventListener("click", showUnseen);
addEventListener("scroll", () => unseen.length > 0 && atTop() && showUnseen(), { passive: true });
form.addEventListener("submit", post);
form.text.addEventListener("input", count);
form.text.addEventListener("keydown", (/** @type {KeyboardEvent} */ key) => key.key === "Enter" && (key.ctrlKey || key.metaKey) && form.requestSubmit());
if (!form.author.value) form.author.value = kept(AUTHOR_KEY) ?? "";
addEventListener("storage", (change) => change.key?.startsWith(OUTBOX_KEY) && adopt(change.key.slice(OUTBOX_KEY.length)));
setInterval(send, 250);
count();
showOutbox();

/** What becomes of posts. @param {import("./feed.js").Effect} effect */
function heed(effect) {
  if (effect.do === "resume") keep(mail.broken(outbox, Date.now()));
  if (effect.do === "stored") keep(mail.stored(outbox, effect.id));
  if (effect.do === "refused") keep(mail.refused(outbox, effect, Date.now()));
}

/** @param {import("./feed.js").State} reader */
function changed(reader) {
  const wasLive = isLive;
  ({ node, live: isLive } = reader);
  if (isLive && !wasLive) send();
}

/* The board */

/** @param {import("./feed.js").Item} change */
function apply(change) {
  const quote = change.item;
  if (change.kind === "deleted") {
    list.querySelector(`[data-id="${CSS.escape(quote.id)}"]`)?.remove();
    const others = (/** @type {any} */ one) => one.id !== quote.id;
    [arriving, unseen] = [arriving.filter(others), unseen.filter(others)];
    return;
  }
  keep(mail.stored(outbox, quote.id));
  const shown = $(`q${Number(quote.seq)}`);
  if (shown) shown.replaceWith(row(quote));
  else arrive(quote);
}

/** The first one shows at once; what comes in its wake is shown a few rows at a time, so that nothing stutters. @param {any} quote */
function arrive(quote) {
  arriving.push(quote);
  // What will not stay on the page is not made for it.
  if (arriving.length > SHOWN_MAX) arriving.shift();
  if (!arrival) showArrived();
}

function showArrived() {
  const quotes = arriving.splice(0, ROWS_AT_ONCE);
  arrival = quotes.length > 0;
  if (!arrival) return;
  if (newest && unseen.length === 0 && atTop()) insert(quotes);
  else quotes.forEach(remember);
  // A frame; a page in the background has none, and takes its time.
  const next = once(showArrived);
  requestAnimationFrame(next);
  setTimeout(next, 100);
}

/** @param {() => void} act @returns {() => void} */
function once(act) {
  let done = false;
  return () => {
    if (!done) {
      done = true;
      act();
    }
  };
}

/** Whether something new at the top moves nothing that is being read. */
function atTop() {
  return list.getBoundingClientRect().top >= 0;
}

/** @param {any} quote */
function remember(quote) {
  if (unseen.some((one) => one.seq === quote.seq)) return;
  unseen.push(quote);
  if (unseen.length > SHOWN_MAX) unseen.shift();
  fresh.hidden = false;
  fresh.textContent = words.fresh(unseen.length) + (newest ? "" : " on the board");
  $("news").textContent = `${unseen.length} new quotes`;
}

function showUnseen() {
  if (!newest) {
    location.assign("/");
    return;
  }
  const quotes = unseen;
  unseen = [];
  fresh.hidden = true;
  insertAll(quotes);
  if (!atTop()) list.scrollIntoView({ block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
}

/** The newest at once, the others behind them frame by frame. @param {any[]} quotes */
function insertAll(quotes) {
  insert(quotes.slice(-ROWS_AT_ONCE));
  const others = quotes.slice(0, -ROWS_AT_ONCE);
  if (others.length > 0) requestAnimationFrame(() => insertAll(others));
}

/** Adds rows in the order of the log, newest first. @param {any[]} quotes */
function insert(quotes) {
  // One is looked at; many at once would only flicker.
  const alone = quotes.length === 1 && !arriving.length;
  for (const quote of quotes) {
    $(`q${Number(quote.seq)}`)?.remove();
    const item = row(quote);
    if (alone) item.classList.add("arrived");
    list.insertBefore(item, olderThan(quote.seq));
  }
  $("empty").hidden = true;
  say($("news"), quotes.length === 1 ? `New quote by ${quotes[0].author}` : `${quotes.length} new quotes`);
  trim();
}

/** The row before which an entry stands: nearly always the first. @param {number} seq @returns {Element|null} */
function olderThan(seq) {
  let one = list.firstElementChild;
  while (one && seqOf(one) > seq) one = one.nextElementSibling;
  return one;
}

/** What is beyond the limit is behind the link to older ones. */
function trim() {
  if (list.children.length <= SHOWN_MAX) return;
  while (list.children.length > SHOWN_MAX) list.lastElementChild?.remove();
  older.href = `/?before=${seqOf(/** @type {Element} */ (list.lastElementChild))}`;
  older.hidden = false;
}

/** @param {Element} item */
function seqOf(item) {
  return Number(/** @type {HTMLElement} */ (item).dataset.seq);
}

/** @param {any} quote @returns {HTMLLIElement} */
function row(quote) {
  const time = element("time", { dateTime: new Date(quote.at_ms).toISOString() });
  const meta = element("span", { className: "meta" }, element("a", { href: `/quotes/${quote.seq}` }, time), ` by way of ${quote.node} · entry ${quote.seq}`);
  const item = element("li", { id: `q${quote.seq}` }, figure(quote, meta));
  item.dataset.seq = quote.seq;
  item.dataset.id = quote.id;
  state.localize(item);
  return item;
}

/** @param {{author: string, text: string}} quote @param {Node} meta */
function figure(quote, meta) {
  return element("figure", {}, element("blockquote", {}, quote.text), element("figcaption", {}, element("cite", {}, quote.author), " ", meta));
}

/** @param {string} url @returns {Promise<number>} */
async function refetch(url) {
  const { seq, items, next } = await read(url, "/api/v1/quotes?limit=50");
  if (newest) {
    list.replaceChildren(...items.map(row));
    [arriving, unseen] = [[], []];
    fresh.hidden = true;
    older.hidden = next === null;
    if (next !== null) older.href = `/?before=${next}`;
    $("empty").hidden = items.length > 0;
  }
  return seq;
}

/* Posts */

/** @param {SubmitEvent} submit */
function post(submit) {
  const author = form.author.value.trim();
  const text = form.text.value.trim();
  store(AUTHOR_KEY, author);
  // Never connected here: the form knows its own way.
  if (node === null) return;
  submit.preventDefault();
  const faults = [];
  if (text === "") faults.push({ field: "text", detail: "is empty" });
  if ([...text].length > 2_000) faults.push({ field: "text", detail: `has ${[...text].length} characters; 2,000 are allowed` });
  if (author === "") faults.push({ field: "author", detail: "is empty" });
  if ([...author].length > 80) faults.push({ field: "author", detail: `has ${[...author].length} characters; 80 are allowed` });
  blame(faults);
  if (faults.length > 0) return;
  keep(mail.add(outbox, { id: draw(), author, text }, Date.now()));
  form.text.value = "";
  count();
  form.text.focus();
  send();
}

/** Says what is wrong beside the fields, and goes to the first. @param {mail.Fault[]} faults */
function blame(faults) {
  for (const field of ["text", "author"]) {
    const fault = faults.find((one) => one.field === field);
    const note = $(`${field}-error`);
    note.hidden = !fault;
    note.textContent = fault ? blamed(fault) : "";
    if (fault) form[field].setAttribute("aria-invalid", "true");
    else form[field].removeAttribute("aria-invalid");
  }
  $("trouble").hidden = true;
  if (faults.length > 0) form[faults[0].field].focus();
}

/** @param {mail.Fault} fault */
function blamed({ field, detail }) {
  return `${{ text: "Quote", author: "Author" }[field] ?? field} ${detail}`;
}

function count() {
  const used = [...form.text.value].length;
  $("text-help").textContent = used < 1_500 ? "1 to 2,000 characters." : `${used.toLocaleString()} of 2,000 characters.`;
}

function send() {
  if (!isLive) return;
  const now = Date.now();
  for (const { id, author, text } of mail.due(outbox, now)) {
    if (connection.send({ t: "post", id, topic: "quotes", body: { author, text } })) keep(mail.sent(outbox, id, now));
  }
}

/** @param {mail.Outbox} next */
function keep(next) {
  if (next === outbox) return;
  const { kept, forgotten } = mail.difference(outbox, next);
  outbox = next;
  for (const post of kept) store(OUTBOX_KEY + post.id, JSON.stringify(post));
  for (const id of forgotten) forget(OUTBOX_KEY + id);
  showOutbox();
}

/** Another tab posted, or learned what became of a post. @param {string} id */
function adopt(id) {
  outbox = mail.adopt(outbox, id, kept(OUTBOX_KEY + id), Date.now());
  showOutbox();
}

/** Newest first. */
function showOutbox() {
  const place = $("outbox");
  const before = onTheWay;
  onTheWay = new Map([...outbox].reverse().map((post) => [post, before.get(post) ?? pending(post)]));
  for (const [post, item] of before) if (!onTheWay.has(post)) item.remove();
  [...onTheWay].forEach(([post, item], at) => {
    if (before.has(post)) return;
    place.insertBefore(item, place.children[at] ?? null);
    if (post.state === "failed") say($("news"), `Not stored: “${post.text}”. ${why(post)}`);
  });
}

/** @param {mail.Post} one */
function why(one) {
  return one.errors.length > 0 ? one.errors.map(blamed).join("; ") : one.why;
}

/** @param {mail.Post} one */
function pending(one) {
  const failed = one.state === "failed";
  const reason = why(one);
  const said = failed ? `Not stored. ${reason}` : reason ? `pending, trying again: ${reason}` : "pending";
  const meta = element("span", { className: "meta" }, said);
  const item = element("li", { className: failed ? "failed" : "pending" }, figure(one, meta));
  item.dataset.id = one.id;
  if (failed) {
    const again = element("button", { type: "button" }, "Retry");
    again.addEventListener("click", () => (keep(mail.retry(outbox, one.id, Date.now())), send()));
    const edit = element("button", { type: "button" }, "Edit");
    edit.addEventListener("click", () => takeBack(one));
    // What cannot be taken will not be taken the second time either.
    item.append(element("p", { className: "actions" }, ...(one.errors.length > 0 ? [edit] : [again, edit])));
  }
  return item;
}

/** What could not be stored goes back into the form, under a new id once it is posted again. @param {mail.Post} one */
function takeBack(one) {
  form.text.value = one.text;
  form.author.value = one.author;
  keep(mail.stored(outbox, one.id));
  count();
  blame(one.errors);
  if (one.errors.length === 0) form.text.focus();
}
