// @ts-check
/**
 * Watching nodes as they live: a stream of each one, opened again after a while when it breaks.
 * @module
 */

/** Streams at once. */
const WATCHED_MAX = 9;
/** Before a stream that broke is opened again. */
const AGAIN_MS = 2_000;
/** What a node said longer ago is no news. */
const FRESH_MS = 1_500;

export class Watch {
  /** @param {(name: string, frame: any) => void} told */
  constructor(told) {
    this.told = told;
    /** @type {Map<string, {url: string, source: EventSource|null, frame: any, at_ms: number, again_ms: number}>} */
    this.streams = new Map();
  }

  /** Watches these nodes and no others. @param {{name: string, url: string|null, role: string}[]} nodes */
  follow(nodes) {
    const wanted = nodes.filter(({ url, role }) => url && role !== "dead").slice(0, WATCHED_MAX);
    for (const [name, stream] of this.streams) {
      if (wanted.some((node) => node.name === name && node.url === stream.url)) continue;
      stream.source?.close();
      this.streams.delete(name);
    }
    for (const { name, url } of wanted) {
      if (url && !this.streams.has(name)) this.streams.set(name, { url, source: null, frame: null, at_ms: 0, again_ms: 0 });
    }
    for (const name of this.streams.keys()) this.open(name);
  }

  /** @param {string} name */
  open(name) {
    const stream = this.streams.get(name);
    if (!stream || stream.source || Date.now() < stream.again_ms) return;
    const source = new EventSource(new URL("/api/v1/cluster/live", stream.url));
    stream.source = source;
    source.onmessage = (message) => {
      stream.frame = JSON.parse(message.data);
      stream.at_ms = Date.now();
      this.told(name, stream.frame);
    };
    // The browser would knock at once, for ever.
    source.onerror = () => {
      source.close();
      if (stream.source === source) Object.assign(stream, { source: null, frame: null, again_ms: Date.now() + AGAIN_MS });
    };
  }

  /** What a node said last, if that is news. @param {string} name @returns {any} */
  frame(name) {
    const stream = this.streams.get(name);
    return stream && Date.now() - stream.at_ms < FRESH_MS ? stream.frame : null;
  }

  stop() {
    this.follow([]);
  }
}
