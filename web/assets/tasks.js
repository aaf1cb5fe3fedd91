// @ts-check
/**
 * The tasks, alive: cards come and go between the columns, by button, by keyboard or dragged.
 * @module
 */

import { element, say } from "./dom.js";
import { follow, read } from "./live.js";
import { ask } from "./reach.js";

/** @typedef {{id: number, title: string, status: string, created_by: string, node: string, assignee: string, version: number}} Task */

const columns = /** @type {HTMLElement} */ (document.getElementById("columns"));
const news = document.getElementById("news");
const trouble = /** @type {HTMLElement} */ (document.getElementById("trouble"));
/** The columns in order: status and title. */
const STATUSES = ["todo", "doing", "done"];
const TITLES = ["To do", "Doing", "Done"];
/** Tasks in one column. */
const SHOWN_MAX = 200;
/** Those of this page: all columns, or one alone. */
const lanes = /** @type {HTMLElement[]} */ ([...columns.querySelectorAll(".lane")]);

const connection = follow({ topics: ["tasks"], apply, refetch });
for (const card of cards()) card.draggable = true;
columns.addEventListener("submit", pressed);
columns.addEventListener("keydown", moved);
columns.addEventListener("dragstart", (drag) => drag.dataTransfer?.setData("text/plain", /** @type {HTMLElement} */ (drag.target).dataset.id ?? ""));
for (const lane of lanes) {
  lane.addEventListener("dragover", (drag) => (drag.preventDefault(), lane.classList.add("over")));
  lane.addEventListener("dragleave", () => lane.classList.remove("over"));
  lane.addEventListener("drop", (drag) => dropped(drag, lane));
}

/** @returns {HTMLElement[]} */
function cards() {
  return /** @type {HTMLElement[]} */ ([...columns.querySelectorAll(".card")]);
}

/** @param {string|number} id @returns {HTMLElement|undefined} */
function cardOf(id) {
  return cards().find((card) => card.dataset.id === String(id));
}

/** @param {import("./feed.js").Item} change */
function apply(change) {
  const task = /** @type {Task} */ (change.item);
  const there = cardOf(task.id);
  // An older state than the one that is shown: what this page did itself came first.
  if (there && Number(there.dataset.version) > task.version) return;
  if (change.kind === "deleted") there?.remove();
  else place(task, there);
  say(news, change.kind === "deleted" ? `${task.title} was deleted` : `${task.title}: ${TITLES[STATUSES.indexOf(task.status)]}`);
  count();
}

/** @param {Task} task @param {HTMLElement|undefined} there */
function place(task, there) {
  const lane = lanes.find((one) => one.dataset.status === task.status);
  const focused = there?.contains(document.activeElement);
  const card = cardFor(task);
  if (lane && there && there.parentElement === lane.querySelector("ul")) there.replaceWith(card);
  else {
    there?.remove();
    if (lane) insert(lane, task.id, card);
  }
  // Whoever moved it by keyboard goes on from where it is now.
  if (focused) card.querySelector("a")?.focus();
}

/** A card comes into a column, if its place there is on this page. @param {HTMLElement} lane @param {number} id @param {HTMLElement} card */
function insert(lane, id, card) {
  const list = /** @type {HTMLElement} */ (lane.querySelector("ul"));
  const behind = [...list.children].find((one) => Number(/** @type {HTMLElement} */ (one).dataset.id) > id) ?? null;
  if (id <= Number(lane.dataset.after || 0) || (behind === null && !onward(lane).hidden)) return;
  list.insertBefore(card, behind);
  if (list.children.length <= SHOWN_MAX) return;
  list.lastElementChild?.remove();
  goOn(lane, /** @type {HTMLElement} */ (list.lastElementChild).dataset.id ?? null);
}

/** The link to where a column goes on; hidden: this is all. @param {HTMLElement} lane */
function onward(lane) {
  return /** @type {HTMLAnchorElement} */ (lane.querySelector(".older a"));
}

/** @param {HTMLElement} lane @param {string|null} last the last task here, if there are more */
function goOn(lane, last) {
  onward(lane).hidden = last === null;
  onward(lane).href = `/tasks?status=${lane.dataset.status}&after=${encodeURIComponent(last ?? "")}`;
}

function count() {
  for (const lane of lanes) {
    const more = onward(lane).hidden ? "" : "+";
    say(lane.querySelector(".count"), lane.querySelectorAll(".card").length + more);
  }
}

/** @param {Task} task @returns {HTMLElement} */
function cardFor(task) {
  const here = STATUSES.indexOf(task.status);
  const button = (/** @type {number} */ to, /** @type {string} */ text) =>
    element("button", { type: "submit", name: "status", value: STATUSES[to] }, text, element("span", { className: "visually-hidden" }, `: ${task.title}`));
  const moves = [];
  if (here > 0) moves.push(button(here - 1, `← ${TITLES[here - 1]}`));
  if (here < 2) moves.push(button(here + 1, `${TITLES[here + 1]} →`));
  const card = element(
    "li",
    { className: "card", draggable: true },
    element("h3", {}, element("a", { href: `/tasks/${task.id}` }, task.title)),
    element("p", { className: "meta" }, `${task.assignee || "nobody yet"} · by ${task.created_by} on ${task.node}`),
    element("form", { method: "post", action: `/tasks/${task.id}`, className: "moves" }, element("input", { type: "hidden", name: "version", value: String(task.version) }), ...moves),
  );
  card.dataset.id = String(task.id);
  card.dataset.version = String(task.version);
  return card;
}

/** @param {string} url @returns {Promise<number>} */
async function refetch(url) {
  /** @type {{seq: number, items: Task[], next: string|null}[]} */
  const lists = [];
  for (const { dataset } of lanes) {
    const after = dataset.after ? `&after=${encodeURIComponent(dataset.after)}` : "";
    lists.push(await read(url, `/api/v1/tasks?limit=${SHOWN_MAX}&status=${dataset.status}${after}`));
  }
  /** A task that went on between two readings is where it was last. @type {Map<string, Task>} */
  const known = new Map();
  for (const task of lists.flatMap(({ items }) => items)) {
    const other = known.get(String(task.id));
    if (!other || other.version < task.version) known.set(String(task.id), task);
  }
  for (const card of cards()) if (!known.has(card.dataset.id ?? "")) card.remove();
  for (const lane of lanes) onward(lane).hidden = true;
  for (const task of known.values()) place(task, cardOf(task.id));
  lanes.forEach((lane, n) => goOn(lane, lists[n].next));
  count();
  // What changed while it was read is told again.
  return Math.min(...lists.map(({ seq }) => seq));
}

/** @param {SubmitEvent} submit */
function pressed(submit) {
  const button = /** @type {HTMLButtonElement|null} */ (submit.submitter);
  const card = /** @type {HTMLElement|null} */ (button?.closest(".card"));
  if (!button || !card || connection.phase !== "open") return;
  submit.preventDefault();
  move(card, button.value);
}

/** Left and right with Alt move the card whose link or button has the focus. @param {KeyboardEvent} key */
function moved(key) {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[key.key];
  const card = /** @type {HTMLElement|null} */ (/** @type {HTMLElement} */ (key.target).closest(".card"));
  if (!step || !key.altKey || !card) return;
  key.preventDefault();
  const to = STATUSES[STATUSES.indexOf(statusOf(card)) + step];
  if (to) move(card, to);
}

/** @param {DragEvent} drag @param {HTMLElement} lane */
function dropped(drag, lane) {
  drag.preventDefault();
  lane.classList.remove("over");
  const card = cardOf(drag.dataTransfer?.getData("text/plain") ?? "");
  if (card && statusOf(card) !== lane.dataset.status) move(card, lane.dataset.status ?? "");
}

/** @param {HTMLElement} card */
function statusOf(card) {
  return /** @type {HTMLElement} */ (card.closest(".lane")).dataset.status ?? "";
}

/** The card goes where it is sent when the log says so. @param {HTMLElement} card @param {string} status */
async function move(card, status) {
  trouble.hidden = true;
  card.classList.add("moving");
  try {
    const answer = await ask(connection.url, `/api/v1/tasks/${card.dataset.id}`, {
      method: "PATCH",
      headers: { "Content-Type": "application/json", "If-Match": `"${card.dataset.version}"` },
      body: JSON.stringify({ status }),
      signal: AbortSignal.timeout(10_000),
    });
    if (!answer.ok) complain(await answer.json());
  } catch {
    complain({ code: "", detail: "Nobody answered. Try again." });
  }
  card.classList.remove("moving");
}

/** @param {{code: string, detail: string}} problem */
function complain({ code, detail }) {
  trouble.hidden = false;
  say(trouble, code === "stale_version" ? "Somebody else was quicker: look where the task is now." : `Not moved. ${detail}`);
}
