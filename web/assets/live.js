// @ts-check
/**
 * A page that follows some topics of the feed: on this node, and on another when it is gone.
 * @module
 */

import { Connection } from "./connection.js";
import * as feed from "./feed.js";
import { ask, token } from "./reach.js";
import * as state from "./state.js";

/**
 * @typedef {object} Page
 * @property {string[]} topics
 * @property {(item: feed.Item) => void} apply what one change does to the page
 * @property {(url: string) => Promise<number>} refetch reads everything anew from the node at `url`; the index of that read
 * @property {(effect: feed.Effect) => void} [heed] what the page does besides about anything that is to be done
 * @property {(reader: feed.State) => void} [changed] what is known of the node may be something else now
 */

const main = /** @type {HTMLElement} */ (document.getElementById("main"));

/**
 * Makes the page live until it is closed.
 * @param {Page} page
 * @returns {Connection}
 */
export function follow(page) {
  let reader = feed.begin(main.dataset.epoch ?? null, Number(main.dataset.seq));
  const connection = new Connection({
    home: location.origin,
    peers: JSON.parse(main.dataset.peers || "[]"),
    frame: take,
    changed: show,
  });
  state.localize(main);
  state.onRetry(() => connection.now());
  connection.open();
  return connection;

  /** @param {any} frame */
  function take(frame) {
    const [next, effects] = feed.read(reader, frame);
    reader = next;
    if (reader.live) connection.settled();
    for (const effect of effects) act(effect);
    show();
  }

  /** @param {feed.Effect} effect */
  function act(effect) {
    page.heed?.(effect);
    switch (effect.do) {
      case "peers":
        connection.meet(effect.peers);
        break;
      case "resume":
        connection.send({ t: "resume", epoch: effect.epoch, after: effect.after, topics: page.topics, token: token(connection.url) });
        break;
      case "apply":
        page.apply(effect.item);
        break;
      case "refetch":
        refetch();
        break;
      case "again":
        connection.again();
        break;
    }
  }

  /** What is shown stays until its replacement is here. */
  async function refetch() {
    const { socket, url } = connection;
    try {
      const seq = await page.refetch(url);
      // Another connection has said hello since, and was answered.
      if (connection.socket !== socket) return;
      const [next, effects] = feed.fetched(reader, seq);
      reader = next;
      for (const effect of effects) act(effect);
    } catch {
      if (connection.socket === socket) connection.again();
    }
  }

  function show() {
    if (connection.phase !== "open") reader = feed.lost(reader);
    const { phase, heard_ms, next_ms } = connection;
    const { live, node, leader, term } = reader;
    state.show({ phase, live, node, leader, term, as_of_ms: heard_ms, online: navigator.onLine }, next_ms);
    page.changed?.(reader);
  }
}

/** Reads JSON from the node at `url`. @param {string} url @param {string} path @returns {Promise<any>} */
export async function read(url, path) {
  const answer = await ask(url, path, { signal: AbortSignal.timeout(5_000) });
  if (!answer.ok) throw new Error(String(answer.status));
  return answer.json();
}
