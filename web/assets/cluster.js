// @ts-check
/**
 * The cluster's page, alive. It asks the node that it is connected to every second, and another when that is gone; it
 * watches that node and, for their timers and logs, the others.
 * @module
 */

import { Connection } from "./connection.js";
import { element, say } from "./dom.js";
import { drill } from "./drills.js";
import * as feed from "./feed.js";
import { Picture } from "./picture.js";
import * as ring from "./ring.js";
import * as state from "./state.js";
import { Watch } from "./watch.js";
import * as words from "./words.js";

const main = /** @type {HTMLElement} */ (document.getElementById("main"));
const body = /** @type {HTMLTableSectionElement} */ (document.querySelector("#nodes tbody"));
const stage = /** @type {HTMLElement} */ (document.getElementById("stage"));
const pause = /** @type {HTMLButtonElement} */ (document.getElementById("pause"));
const LABELS = ["Node", "Role", "Term", "Log", "Commit", "Applied", "Lag", "Heard", "Lost"];

let reader = feed.begin(null, null);
let asking = false;
/** The cluster as the connected node saw it last. @type {any} */
let view = null;
/** How each node sees it, by name. @type {Map<string, any>} */
const views = new Map();
/** Who led when, as each node told it last, by its name: it is told once, and whenever it is another. @type {Map<string, ring.Reign[]>} */
const reigns = new Map();
/** What of it is shown. @type {ring.Reign[]|undefined} */
let shownReigns;

const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
const picture = new Picture(/** @type {any} */ (document.getElementById("ring")), still);
const watch = new Watch(told);

const connection = new Connection({
  home: location.origin,
  peers: JSON.parse(main.dataset.peers || "[]"),
  frame: take,
  changed: showState,
});
state.onRetry(() => connection.now());
connection.open();
ask();
setInterval(ask, 1_000);
stage.hidden = false;
pause.addEventListener("click", () => {
  const stopped = pause.getAttribute("aria-pressed") !== "true";
  pause.setAttribute("aria-pressed", String(stopped));
  pause.textContent = stopped ? "Go on" : "Pause";
  if (stopped) picture.clear();
});
document.addEventListener("visibilitychange", () => (document.visibilityState === "hidden" ? watch.stop() : ask()));
document.getElementById("drills")?.addEventListener("submit", (submit) => drill(submit, connection));

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
  if (asking || document.visibilityState === "hidden" || connection.phase === "waiting") return;
  asking = true;
  try {
    view = await seen(connection.url);
    show(view);
    watch.follow(view.nodes);
    await askOthers();
  } catch {
    // The connection says so, and moves.
  } finally {
    asking = false;
  }
}

/** The cluster as the node at `url` sees it. @param {string} url @returns {Promise<any>} */
async function seen(url) {
  const answer = await fetch(new URL("/api/v1/cluster", url), { signal: AbortSignal.timeout(2_000) });
  if (!answer.ok) throw new Error(String(answer.status));
  return answer.json();
}

/** Who hears whom, everyone must be asked. Those that are silent would not answer, or know nothing new. */
async function askOthers() {
  const nodes = view.nodes.filter((/** @type {any} */ node) => node.url && node.role !== "dead").slice(0, 25);
  const all = nodes.map((/** @type {any} */ node) => (node.name === view.node ? Promise.resolve(view) : seen(node.url).catch(() => null)));
  const found = await Promise.all(all);
  views.clear();
  nodes.forEach((/** @type {any} */ node, /** @type {number} */ n) => found[n] && views.set(node.name, found[n]));
  showMatrix();
}

/** A node that is watched said how it is. @param {string} name @param {any} frame */
function told(name, frame) {
  if (frame.elections) reigns.set(name, frame.elections);
  if (view === null || pause.getAttribute("aria-pressed") === "true") return;
  if (name !== view.node) return;
  say(document.getElementById("watched"), name);
  const led = reigns.get(name);
  if (led && led !== shownReigns) showReigns(led);
  picture.show(view.nodes.map(withLife), name);
  picture.fly(frame.flights.flatMap((/** @type {ring.Flight} */ flight) => ring.arrows(flight, name, view.nodes)));
  const share = frame.one_in === 1 ? "each one is shown" : `one in ${frame.one_in} is shown, of votes each one`;
  say(document.getElementById("sampling"), `${frame.datagrams * 10} datagrams a second; ${share}.`);
}

/** A node as it says itself, if it is watched; else as the connected one saw it. @param {any} node @returns {import("./picture.js").Node} */
function withLife(node) {
  const frame = node.role === "dead" ? null : watch.frame(node.name);
  if (frame === null) return { ...node, election_in_ms: null };
  const { role, term, last_index, commit_index, applied_index, election_in_ms } = frame;
  return { ...node, role: role ?? node.role, term, last_index, commit_index, applied_index, election_in_ms };
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });

/** @param {ring.Reign[]} told */
function showReigns(told) {
  shownReigns = told;
  const rows = ring.timeline(told).slice(0, 8).map(({ at_ms, term, leader, without_ms, lasted_ms }) =>
    element(
      "li",
      {},
      element("time", { dateTime: new Date(at_ms).toISOString() }, clock.format(at_ms)),
      element("span", {}, element("strong", {}, leader), `, term ${term}`),
      element("span", { className: "meta" }, [words.lasted(lasted_ms), words.without(without_ms)].filter(Boolean).join("; ")),
    ),
  );
  document.getElementById("reigns")?.replaceChildren(...rows);
}

/** Rows hear, columns speak. */
function showMatrix() {
  const names = view.nodes.map((/** @type {any} */ node) => node.name);
  const head = element("tr", {}, element("td", {}), ...names.map((/** @type {string} */ name) => element("th", { scope: "col" }, name)));
  const rows = names.map((/** @type {string} */ hearer) =>
    element("tr", {}, element("th", { scope: "row" }, `${hearer} hears`), ...names.map((/** @type {string} */ speaker) => heardCell(hearer, speaker))),
  );
  document.getElementById("matrix")?.replaceChildren(element("thead", {}, head), element("tbody", {}, ...rows));
  /** @type {HTMLElement} */ (document.getElementById("hears")).hidden = false;
}

/** @param {string} hearer @param {string} speaker */
function heardCell(hearer, speaker) {
  if (hearer === speaker) return element("td", { className: "self" }, "–");
  const theirs = views.get(hearer);
  const node = theirs?.nodes.find((/** @type {any} */ one) => one.name === speaker);
  const link = theirs?.links.find((/** @type {any} */ one) => one.node === speaker);
  const { text, level } = words.link(node ?? null, link ?? null);
  const cell = element("td", {}, text);
  cell.dataset.level = level;
  return cell;
}

/** @param {any} view */
function show(view) {
  say(document.getElementById("seer"), view.node);
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
  note(cells[1], "no-voter", node.voter || node.role === "learner" ? "" : "no voter");
  // How far a node has come that is behind; only the node itself knows.
  note(cells[1], "catching-up", node.catching_up ? `catching up: ${node.catching_up}` : "");
  const lag = Math.max(0, view.commit_index - node.applied_index);
  [node.term, node.last_index, node.commit_index, node.applied_index, lag].forEach((number, place) => say(cells[place + 2], String(number)));
  say(cells[7], node.name === view.node ? "this node" : words.heard(node.heard_ms, node.heard_by));
  say(cells[8], words.lost(view.links.find((/** @type {any} */ link) => link.node === node.name) ?? null));
}

/** What is said beside a role, or no longer. @param {Element} cell @param {string} kind @param {string} text */
function note(cell, kind, text) {
  const line = cell.querySelector(`.${kind}`);
  if (!text) return line?.remove();
  const place = line ?? cell.appendChild(Object.assign(document.createElement("span"), { className: `meta ${kind}` }));
  say(place, text);
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
