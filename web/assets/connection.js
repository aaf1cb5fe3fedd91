// @ts-check
/**
 * The way to a node: a websocket that is opened again, elsewhere if need be, until the page is closed.
 * What to do with what it says is the caller's.
 * @module
 */

import * as backoff from "./backoff.js";

/** @typedef {import("./backoff.js").Peer} Peer */

/** A node that says nothing for so long is gone: it ticks every second. */
const SILENT_MAX_MS = 3_000;
/** An attempt may take so long. */
const OPEN_MAX_MS = 2_000;

export class Connection {
  /**
   * @param {object} options
   * @param {string} options.home the URL of the node that served the page
   * @param {Peer[]} options.peers
   * @param {(frame: any) => void} options.frame what came in
   * @param {() => void} options.changed phase or waiting time is another
   */
  constructor({ home, peers, frame, changed }) {
    this.peers = backoff.merge([], peers);
    /** The node that is, or was last, connected. */
    this.url = home;
    /** @type {"open"|"waiting"|"connecting"} */
    this.phase = "connecting";
    this.failures = 0;
    this.heard_ms = Date.now();
    /** When the next attempt is made, in Unix time. */
    this.next_ms = 0;
    /** @type {WebSocket|null} */
    this.socket = null;
    this.onFrame = frame;
    this.onChanged = changed;
    /** @type {number|undefined} */
    this.timer = undefined;
    setInterval(() => this.watch(), 500);
    window.addEventListener("online", () => this.now());
    // Back from another page, or from a sleep: what is connected may long be gone.
    window.addEventListener("pageshow", (shown) => shown.persisted && this.again());
    for (const wakes of ["visibilitychange", "resume"]) {
      document.addEventListener(wakes, () => document.visibilityState === "visible" && this.watch());
    }
  }

  /** Connects at once. */
  now() {
    if (this.phase === "open") return;
    clearTimeout(this.timer);
    this.open();
  }

  /** @param {object} frame @returns {boolean} whether it could be handed over */
  send(frame) {
    if (this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(frame));
    return true;
  }

  /** Leaves this node, as if it were gone. */
  again() {
    this.close();
    this.lost();
  }

  open() {
    this.close();
    const url = backoff.target(this.peers, this.url, this.failures);
    this.phase = "connecting";
    this.opening_ms = Date.now();
    this.onChanged();
    const socket = new WebSocket(url.replace(/^http/, "ws") + "/ws", ["chorus.v1.json"]);
    this.socket = socket;
    socket.onmessage = (message) => {
      if (this.socket !== socket) return;
      this.heard_ms = Date.now();
      if (this.phase !== "open") {
        this.phase = "open";
        this.url = url;
      }
      this.onFrame(JSON.parse(message.data));
    };
    socket.onclose = () => this.socket === socket && this.lost();
  }

  /** The node has taken us in: the next loss counts anew. */
  settled() {
    this.failures = 0;
  }

  close() {
    const socket = this.socket;
    this.socket = null;
    socket?.close();
  }

  lost() {
    this.socket = null;
    const wait = backoff.waitMs(this.failures, this.peers.length || 1, Math.random());
    this.failures += 1;
    this.phase = "waiting";
    this.next_ms = Date.now() + wait;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.open(), wait);
    this.onChanged();
  }

  watch() {
    const now = Date.now();
    if (this.phase === "open" && now - this.heard_ms > SILENT_MAX_MS) this.again();
    else if (this.phase === "connecting" && now - (this.opening_ms ?? now) > OPEN_MAX_MS) this.again();
    else if (this.phase !== "open") this.onChanged();
  }

  /** @param {Peer[]} named */
  meet(named) {
    this.peers = backoff.merge(this.peers, named);
  }
}
