// @ts-check
/**
 * The reader's half of the feed: what a frame means to whoever has read up to a cursor. Pure.
 * @module
 */

/**
 * @typedef {{topic: string, kind: "created"|"changed"|"deleted", item: any}} Item
 * @typedef {Item & {seq: number}} Dated
 * @typedef {{epoch: string|null, told: string|null, cursor: number|null, leader: string|null, term: number, node: string|null, live: boolean}} State
 *   `cursor`: everything up to here is known, of the cluster's life `epoch`. `told`: the life of which the node is. `live`: the node has answered our resume.
 * @typedef {{do: "resume", epoch: string|null, after: number|null}
 *   | {do: "apply", seq: number, item: Item}
 *   | {do: "refetch", seq: number}
 *   | {do: "stored", id: string, seq: number}
 *   | {do: "refused", id: string, code: string, detail: string, retry_ms: number|null, errors: {field: string, detail: string}[]}
 *   | {do: "peers", peers: {name: string, url: string}[]}
 *   | {do: "again", why: string}} Effect
 */

/**
 * @param {string|null} epoch which life of the cluster the page was read from
 * @param {number|null} cursor the applied index of that read
 * @returns {State}
 */
export function begin(epoch, cursor) {
  return { epoch, told: null, cursor, leader: null, term: 0, node: null, live: false };
}

/**
 * Takes one frame in.
 * @param {State} state
 * @param {any} frame
 * @returns {[State, Effect[]]} the new state, and what to do
 */
export function read(state, frame) {
  switch (frame.t) {
    case "hello":
      return hello(state, frame);
    case "batch":
      return batch(state, frame);
    case "event":
      return event(state, frame);
    case "tick":
      return tick(state, frame);
    case "reset":
      // Nothing that is shown goes before its replacement is here.
      return [{ ...state, live: false }, [{ do: "refetch", seq: frame.seq }]];
    case "ack":
      return [state, [{ do: "stored", id: frame.id, seq: frame.seq }]];
    case "nack":
      return [state, [{ do: "refused", id: frame.id, code: frame.code, detail: frame.detail, retry_ms: frame.retry_ms, errors: frame.errors ?? [] }]];
    default:
      return [state, []];
  }
}

/** @param {State} state @param {any} frame @returns {[State, Effect[]]} */
function hello(state, frame) {
  const next = { ...state, told: frame.epoch, node: frame.node, leader: frame.leader, term: frame.term, live: false };
  if (state.epoch === null) next.epoch = frame.epoch;
  return [
    next,
    [
      { do: "peers", peers: frame.peers ?? [] },
      { do: "resume", epoch: next.epoch, after: state.cursor },
    ],
  ];
}

/** @param {State} state @param {any} frame @returns {[State, Effect[]]} */
function batch(state, frame) {
  if (state.cursor !== null && frame.from > state.cursor) return gap(state, frame.from);
  const cursor = state.cursor ?? frame.from;
  const news = frame.items.filter((/** @type {Dated} */ item) => item.seq > cursor);
  const effects = news.map((/** @type {Dated} */ item) => ({ do: "apply", seq: item.seq, item }));
  return [{ ...state, live: true, cursor: Math.max(cursor, frame.to) }, effects];
}

/** @param {State} state @param {any} frame @returns {[State, Effect[]]} */
function event(state, frame) {
  if (state.cursor !== null && frame.seq <= state.cursor) return [state, []];
  if (state.cursor !== null && frame.prev !== state.cursor) return gap(state, frame.prev);
  const effects = frame.items.map((/** @type {Item} */ item) => ({ do: "apply", seq: frame.seq, item }));
  return [{ ...state, live: true, cursor: frame.seq }, effects];
}

/** @param {State} state @param {any} frame @returns {[State, Effect[]]} */
function tick(state, frame) {
  const cursor = Math.max(state.cursor ?? 0, frame.seq);
  return [{ ...state, live: true, cursor, leader: frame.leader, term: frame.term }, []];
}

/** @param {State} state @param {number} before @returns {[State, Effect[]]} */
function gap(state, before) {
  return [{ ...state, live: false }, [{ do: "again", why: `a gap: ${state.cursor} was read, ${before} came before` }]];
}

/**
 * The connection is gone; what was read stays read.
 * @param {State} state
 * @returns {State}
 */
export function lost(state) {
  return state.live ? { ...state, live: false } : state;
}

/**
 * After a reset everything was fetched anew, from the node that said so: what is shown is of its life of the cluster.
 * @param {State} state
 * @param {number} seq the applied index of that read
 * @returns {[State, Effect[]]} the new state, and what to do
 */
export function fetched(state, seq) {
  return [{ ...state, epoch: state.told, cursor: seq }, [{ do: "resume", epoch: state.told, after: seq }]];
}
