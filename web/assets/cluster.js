// @ts-check
/**
 * The cluster's table, alive. It asks the node that it is connected to every second, and another when that is gone.
 * @module
 */

import { Connection } from "./connection.js";
import * as feed from "./feed.js";
import * as state from "./state.js";
import * as words from "./words.js";

const main = /** @type {HTMLElement} */ (document.getElementById("main"));
const body = /** @type {HTMLTableSectionElement} */ (document.querySelector("#nodes tbody"));
const LABELS = ["Node", "Role", "Term", "Log", "Commit", "Applied", "Lag", "Heard"];

let reader = feed.begin(null, null);
let asking = false;

const connection = new Connection({
  home: location.origin,
  peers: JSON.parse(main.dataset.peers || "[]"),
  frame: take,
  changed: showState,
});
state.onRetry(() => connection.now());
connection.open();
setInterval(ask, 1_000);

/** The feed tells who leads; no topic concerns this page. @param {any} frame */
function take(frame) {
  const before = `${reader.leader} ${reader.term}`;
  const [next, effects] = feed.read(reader, frame);
  reader = next;
  if (reader.live) connection.settled();
  for (const effect of effects) {
    if (effect.do === "peers") connection.meet(effect.peers);
    if (effect.do === "resume") connection.send({ t: "resume", epoch: null, after: null, topics: [] });
    if (effect.do === "again" || effect.do === "refetch") connection.again();
  }
  showState();
  if (before !== `${reader.leader} ${reader.term}`) ask();
}

function showState() {
  if (connection.phase !== "open") reader = feed.lost(reader);
  const { phase, heard_ms, next_ms } = connection;
  const { live, node, leader, term } = reader;
  state.show({ phase, live, node, leader, term, as_of_ms: heard_ms, online: navigator.onLine }, next_ms);
}

async function ask() {
  if (asking || document.visibilityState === "hidden" || connection.phase !== "open") return;
  asking = true;
  try {
    const answer = await fetch(new URL("/api/v1/cluster", connection.url), { signal: AbortSignal.timeout(2_000) });
    if (answer.ok) show(await answer.json());
  } catch {
    // The connection says so, and moves.
  } finally {
    asking = false;
  }
}

/** @param {any} view */
function show(view) {
  say(/** @type {HTMLElement} */ (document.getElementById("seer")), view.node);
  const known = new Map([...body.rows].map((row) => [row.dataset.node, row]));
  for (const node of view.nodes) {
    const row = known.get(node.name) ?? body.appendChild(newRow(node.name));
    known.delete(node.name);
    fill(row, node, view);
  }
  for (const gone of known.values()) gone.remove();
}

/** @param {HTMLTableRowElement} row @param {any} node @param {any} view */
function fill(row, node, view) {
  row.dataset.role = node.role;
  row.toggleAttribute("data-here", node.name === view.node);
  const cells = [...row.cells];
  link(cells[0], node);
  const role = cells[1].querySelector(".role") ?? cells[1].appendChild(document.createElement("span"));
  role.className = "role";
  /** @type {HTMLElement} */ (role).dataset.role = node.role;
  say(role, node.role);
  const lag = Math.max(0, view.commit_index - node.applied_index);
  [node.term, node.last_index, node.commit_index, node.applied_index, lag].forEach((number, place) => say(cells[place + 2], String(number)));
  say(cells[7], node.name === view.node ? "this node" : words.heard(node.heard_ms));
}

/** @param {Element} cell @param {any} node */
function link(cell, node) {
  const anchor = cell.querySelector("a");
  if (!node.url) {
    if (anchor || cell.textContent !== node.name) cell.textContent = node.name;
    return;
  }
  const href = new URL("/cluster", node.url).href;
  if (anchor?.href === href) return;
  const made = Object.assign(document.createElement("a"), { href, textContent: node.name });
  cell.replaceChildren(made);
}

/** @param {string} name */
function newRow(name) {
  const row = document.createElement("tr");
  row.setAttribute("role", "row");
  row.dataset.node = name;
  LABELS.forEach((label, place) => {
    const cell = document.createElement(place === 0 ? "th" : "td");
    cell.setAttribute("role", place === 0 ? "rowheader" : "cell");
    if (place === 0) cell.setAttribute("scope", "row");
    cell.dataset.label = label;
    if (place >= 2 && place <= 6) cell.className = "number";
    row.append(cell);
  });
  return row;
}

/** @param {Element} place @param {string} text */
function say(place, text) {
  if (place.textContent !== text) place.textContent = text;
}
