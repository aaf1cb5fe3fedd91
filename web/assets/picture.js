// @ts-check
/**
 * The cluster as a picture: nodes on a ring, their election timers and the ends of their logs, and datagrams as they fly.
 * @module
 */

import * as ring from "./ring.js";

/**
 * @typedef {object} Node
 * @property {string} name
 * @property {string} id
 * @property {string} role
 * @property {number} term
 * @property {number} last_index
 * @property {number} commit_index
 * @property {number} applied_index
 * @property {number|null} election_in_ms known of nodes that are watched
 */

const SVG = "http://www.w3.org/2000/svg";
/** How long an arrow flies: much longer than a datagram, so that it can be seen. */
const FLIGHT_MS = 450;
/** Arrows at once. */
const ARROWS_MAX = 90;
/** The whole of an election timer's arc. */
const TIMER_MS = 300;
/** Beyond so many nodes there is no room for the ends of logs. */
const STRIPS_MAX = 9;

/** @param {string} tag @param {Record<string, string|number>} [attributes] @returns {SVGElement} */
function svg(tag, attributes = {}) {
  const made = /** @type {SVGElement} */ (document.createElementNS(SVG, tag));
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  return made;
}

export class Picture {
  /** @param {SVGElement} place @param {boolean} still nothing may move */
  constructor(place, still) {
    this.lines = place.appendChild(svg("g"));
    this.stands = place.appendChild(svg("g"));
    this.arrows = place.appendChild(svg("g"));
    this.still = still;
    /** @type {Node[]} */
    this.nodes = [];
    /** @type {Map<string, {at: ring.Point, group: SVGElement, ring: SVGElement, arc: SVGElement, role: SVGElement, strip: SVGElement}>} */
    this.shown = new Map();
    /** @type {{path: [ring.Point, ring.Point], mark: SVGElement, since: number}[]} */
    this.flying = [];
    this.moving = false;
  }

  /** Shows how far each node is. @param {Node[]} nodes @param {string} watched */
  show(nodes, watched) {
    const names = nodes.map(({ name }) => name).join(" ");
    if (names !== this.nodes.map(({ name }) => name).join(" ")) this.place(nodes);
    this.nodes = nodes;
    const last = Math.max(0, ...nodes.map((node) => node.last_index));
    for (const node of nodes) this.fill(node, last, node.name === watched);
  }

  /** @param {Node[]} nodes */
  place(nodes) {
    const size = ring.radius(nodes.length);
    const at = ring.places(nodes.length);
    this.rim = size + 9;
    this.shown.clear();
    this.stands.replaceChildren();
    for (const [place, { name }] of nodes.entries()) {
      const group = svg("g", { class: "stand", transform: `translate(${at[place].x.toFixed(1)} ${at[place].y.toFixed(1)})` });
      const round = 2 * Math.PI * (size + 6);
      const arc = svg("circle", { class: "timer", r: size + 6, "stroke-dasharray": `0 ${round}`, transform: "rotate(-90)" });
      const circle = svg("circle", { class: "body", r: size });
      const label = svg("text", { class: "name", y: 5 });
      label.textContent = name;
      const role = svg("text", { class: "role-word", y: size + 24 });
      const strip = svg("g", { transform: `translate(0 ${size + 33})` });
      group.append(arc, circle, label, role, strip);
      this.stands.append(group);
      this.shown.set(name, { at: at[place], group, ring: circle, arc, role, strip });
    }
  }

  /** @param {Node} node @param {number} last @param {boolean} watched */
  fill(node, last, watched) {
    const shown = this.shown.get(node.name);
    if (!shown) return;
    shown.group.dataset.role = node.role;
    shown.group.dataset.watched = String(watched);
    const words = `${node.role}, term ${node.term}`;
    if (shown.role.textContent !== words) shown.role.textContent = words;
    const round = 2 * Math.PI * (ring.radius(this.nodes.length) + 6);
    const left = node.election_in_ms === null ? 0 : Math.min(1, node.election_in_ms / TIMER_MS);
    shown.arc.setAttribute("stroke-dasharray", `${(round * left).toFixed(1)} ${round.toFixed(1)}`);
    if (this.nodes.length <= STRIPS_MAX) strip(shown.strip, ring.strip(node, last));
  }

  /** Lets datagrams fly. @param {ring.Arrow[]} arrows */
  fly(arrows) {
    const now = performance.now();
    for (const { message, from, to, ago_ms } of arrows) {
      const [a, b] = [this.shown.get(from), this.shown.get(to)];
      if (!a || !b || this.flying.length >= ARROWS_MAX) continue;
      const path = ring.path(a.at, b.at, this.rim ?? 0);
      const mark = this.arrows.appendChild(this.still ? line(message, path) : bird(message, path));
      // A tenth of a second of life at once: each begins when it did.
      this.flying.push({ path, mark, since: now + 100 - Math.min(100, ago_ms) });
    }
    if (!this.moving && this.flying.length > 0) this.move();
  }

  move() {
    this.moving = true;
    const now = performance.now();
    this.flying = this.flying.filter(({ path, mark, since }) => {
      const share = (now - since) / FLIGHT_MS;
      if (share >= 1) {
        mark.remove();
        return false;
      }
      mark.setAttribute("visibility", share < 0 ? "hidden" : "visible");
      if (!this.still) {
        const { x, y } = ring.along(path, Math.max(0, share));
        mark.setAttribute("transform", `translate(${x.toFixed(1)} ${y.toFixed(1)})`);
      }
      return true;
    });
    if (this.flying.length === 0) {
      this.moving = false;
      return;
    }
    requestAnimationFrame(() => this.move());
  }

  /** Nothing is in the air any more. */
  clear() {
    for (const { mark } of this.flying) mark.remove();
    this.flying = [];
  }
}

/** @param {SVGElement} place @param {ReturnType<typeof ring.strip>} cells */
function strip(place, cells) {
  const key = cells.map(({ index, state }) => `${index}${state}`).join();
  if (place.dataset.key === key) return;
  place.dataset.key = key;
  const width = 9;
  const begin = (-cells.length * width) / 2;
  const made = cells.map(({ state }, n) => svg("rect", { class: "entry", "data-state": state, x: begin + n * width, y: 0, width: width - 2, height: 10 }));
  const words = svg("text", { class: "index", y: 24 });
  words.textContent = cells.length > 0 ? `… ${cells[cells.length - 1].index}` : "";
  place.replaceChildren(...made, words);
}

/** Each kind has a shape of its own. @param {string} message @param {[ring.Point, ring.Point]} path @returns {SVGElement} */
function bird(message, [from, to]) {
  const kind = ring.kind(message);
  const group = svg("g", { class: "flight", "data-kind": kind });
  const angle = (Math.atan2(to.y - from.y, to.x - from.x) * 180) / Math.PI;
  const shapes = { heartbeat: "M6 0 -5 5 -2 0 -5 -5Z", reply: "M5 0 -4 4 -4 -4Z", vote: "M9 0 -7 7 -3 0 -7 -7Z", other: "M-3 -3H3V3H-3Z" };
  group.append(svg("path", { d: shapes[kind], transform: `rotate(${angle.toFixed(0)})` }));
  if (kind === "vote") group.append(named(message, 0, -10));
  return group;
}

/** What stands still where nothing may move. @param {string} message @param {[ring.Point, ring.Point]} path @returns {SVGElement} */
function line(message, [from, to]) {
  const kind = ring.kind(message);
  const group = svg("g", { class: "flight", "data-kind": kind });
  group.append(svg("line", { x1: from.x, y1: from.y, x2: to.x, y2: to.y }));
  if (kind === "vote") group.append(named(message, (from.x + to.x) / 2, (from.y + to.y) / 2 - 6));
  return group;
}

/** @param {string} message @param {number} x @param {number} y */
function named(message, x, y) {
  const text = svg("text", { x, y });
  text.textContent = message;
  return text;
}
