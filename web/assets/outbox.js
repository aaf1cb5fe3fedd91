// @ts-check
/**
 * Posts on their way: kept over reloads, sent again under the same id until somebody knows what became of them.
 * The id makes every repetition harmless, also from another tab. Pure: time is an argument.
 * @module
 */

/**
 * @typedef {{field: string, detail: string}} Fault
 * @typedef {object} Post
 * @property {string} id the request's id, the same at every repetition
 * @property {string} author
 * @property {string} text
 * @property {"waiting"|"sent"|"failed"} state waiting: to be sent at `at_ms`; sent: no answer yet
 * @property {number} at_ms when to send next, or when it was sent, in Unix time
 * @property {number} tries how often it was sent
 * @property {string} why what the last answer said
 * @property {Fault[]} errors fields that cannot be taken
 * @typedef {Post[]} Outbox oldest first
 */

/** Posts kept at most. */
export const POSTS_MAX = 50;
/** Sent so often without an outcome, a post waits for a person. */
const TRIES_MAX = 20;
/** Without an answer for so long a post is sent again. */
const ANSWER_WAIT_MS = 7_000;
/** Answers after which the same request may succeed. */
const PASSING = new Set(["no_leader", "overloaded", "catching_up", "outcome_unknown", "playing_dead", "too_many"]);

/**
 * @param {Outbox} outbox
 * @param {{id: string, author: string, text: string}} post
 * @param {number} now_ms
 * @returns {Outbox}
 */
export function add(outbox, post, now_ms) {
  if (outbox.some((one) => one.id === post.id)) return outbox;
  return [...outbox, { ...post, state: /** @type {const} */ ("waiting"), at_ms: now_ms, tries: 0, why: "", errors: [] }].slice(-POSTS_MAX);
}

/**
 * Posts to send now.
 * @param {Outbox} outbox
 * @param {number} now_ms
 * @returns {Post[]}
 */
export function due(outbox, now_ms) {
  return outbox.filter((post) => (post.state === "waiting" && post.at_ms <= now_ms) || (post.state === "sent" && post.at_ms + ANSWER_WAIT_MS <= now_ms));
}

/** @param {Outbox} outbox @param {string} id @param {number} now_ms @returns {Outbox} */
export function sent(outbox, id, now_ms) {
  return change(outbox, id, (post) => ({ ...post, state: "sent", at_ms: now_ms, tries: post.tries + 1 }));
}

/**
 * The connection broke: whoever was not answered is sent again on the next one.
 * @param {Outbox} outbox
 * @param {number} now_ms
 * @returns {Outbox}
 */
export function broken(outbox, now_ms) {
  if (!outbox.some((post) => post.state === "sent")) return outbox;
  return outbox.map((post) => (post.state === "sent" ? { ...post, state: "waiting", at_ms: now_ms } : post));
}

/**
 * It is on the log.
 * @param {Outbox} outbox
 * @param {string} id
 * @returns {Outbox}
 */
export function stored(outbox, id) {
  return outbox.some((post) => post.id === id) ? outbox.filter((post) => post.id !== id) : outbox;
}

/**
 * It was refused, or nobody knows.
 * @param {Outbox} outbox
 * @param {{id: string, code: string, detail: string, retry_ms: number|null, errors?: Fault[]}} answer
 * @param {number} now_ms
 * @returns {Outbox}
 */
export function refused(outbox, answer, now_ms) {
  return change(outbox, answer.id, (post) => {
    const again = PASSING.has(answer.code) && post.tries < TRIES_MAX;
    const wait_ms = Math.min(5_000, (answer.retry_ms ?? 500) * 2 ** Math.min(post.tries, 4));
    return { ...post, state: again ? "waiting" : "failed", at_ms: now_ms + (again ? wait_ms : 0), why: answer.detail, errors: answer.errors ?? [] };
  });
}

/**
 * Another tab changed a post, and sends it. What is kept counts, not what that tab wrote: the word of it may come after
 * the post was stored and forgotten. Here it is sent only if that tab leaves it without an outcome; the id makes it
 * harmless if both do.
 * @param {Outbox} outbox
 * @param {string} id
 * @param {string|null} text what is kept under this id now; nothing: it is stored, or taken back
 * @param {number} now_ms
 * @returns {Outbox}
 */
export function adopt(outbox, id, text, now_ms) {
  const theirs = parse(text);
  if (theirs === null) return stored(outbox, id);
  const mine = theirs.state === "failed" ? theirs : { ...theirs, state: /** @type {const} */ ("sent"), at_ms: now_ms };
  if (outbox.some((one) => one.id === theirs.id)) return change(outbox, theirs.id, () => mine);
  return [...outbox, mine].slice(-POSTS_MAX);
}

/**
 * What is to be kept and what to be forgotten, so that what is kept becomes `next`. Each post is kept by itself: tabs that
 * write at the same moment take nothing from each other.
 * @param {Outbox} before
 * @param {Outbox} next
 * @returns {{kept: Post[], forgotten: string[]}}
 */
export function difference(before, next) {
  const kept = next.filter((post) => !before.includes(post));
  const forgotten = before.filter((post) => !next.some((one) => one.id === post.id)).map((post) => post.id);
  return { kept, forgotten };
}

/** A person wants it tried again. @param {Outbox} outbox @param {string} id @param {number} now_ms @returns {Outbox} */
export function retry(outbox, id, now_ms) {
  return change(outbox, id, (post) => ({ ...post, state: "waiting", at_ms: now_ms, tries: 0, why: "", errors: [] }));
}

/** @param {Outbox} outbox @param {string} id @param {(post: Post) => Post} how @returns {Outbox} */
function change(outbox, id, how) {
  return outbox.some((post) => post.id === id) ? outbox.map((post) => (post.id === id ? how(post) : post)) : outbox;
}

/**
 * Reads one post that was kept; anything else is none.
 * @param {string|null} text
 * @returns {Post|null}
 */
export function parse(text) {
  try {
    const post = JSON.parse(text ?? "null");
    const good = typeof post?.id === "string" && typeof post.text === "string" && typeof post.author === "string";
    return good ? { state: "waiting", at_ms: 0, tries: 0, why: "", errors: [], ...post } : null;
  } catch {
    return null;
  }
}

/**
 * The outbox of a page that begins: what was kept, oldest first (the ids tell), and all without an answer to be sent again.
 * @param {(string|null)[]} texts
 * @param {number} now_ms
 * @returns {Outbox}
 */
export function restore(texts, now_ms) {
  const posts = texts.map(parse).filter((post) => post !== null);
  posts.sort((one, other) => (one.id < other.id ? -1 : 1));
  return broken(posts.slice(-POSTS_MAX), now_ms);
}
