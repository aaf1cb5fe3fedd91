// The reader's half of the feed.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as feed from "../assets/feed.js";

const hello = { t: "hello", epoch: "ab.1", seq: 9, oldest: 1, node: "n2", leader: "n4", term: 7, peers: [{ name: "n2", url: "http://x" }] };
const item = (/** @type {number} */ seq) => ({ topic: "quotes", kind: "created", item: { seq } });

/** Reads frames in turn; the state after them, and everything that was to be done. */
function readAll(state, frames) {
  const done = [];
  for (const frame of frames) {
    const [next, effects] = feed.read(state, frame);
    state = next;
    done.push(...effects);
  }
  return [state, done];
}

test("a hello is answered by a resume from where the page was rendered", () => {
  const [state, done] = readAll(feed.begin("ab.1", 5), [hello]);
  assert.deepEqual(done[1], { do: "resume", epoch: "ab.1", after: 5 });
  assert.equal(state.live, false);
  assert.equal(state.leader, "n4");
});

test("batch, event and tick move the cursor, and the next resume begins there", () => {
  const frames = [
    hello,
    { t: "batch", from: 5, to: 7, items: [{ seq: 6, ...item(6) }] },
    { t: "event", prev: 7, seq: 9, items: [item(9)] },
    { t: "tick", seq: 12, leader: "n4", term: 7 },
    hello,
  ];
  const [state, done] = readAll(feed.begin("ab.1", 5), frames);
  assert.equal(state.cursor, 12);
  assert.deepEqual(done.filter((one) => one.do === "apply").map((one) => one.seq), [6, 9]);
  assert.deepEqual(done.at(-1), { do: "resume", epoch: "ab.1", after: 12 });
});

test("what was read before is not applied again", () => {
  const frames = [{ t: "batch", from: 3, to: 7, items: [{ seq: 4, ...item(4) }, { seq: 6, ...item(6) }] }, { t: "event", prev: 4, seq: 6, items: [item(6)] }];
  const [state, done] = readAll(feed.begin("ab.1", 5), frames);
  assert.deepEqual(done.map((one) => one.seq), [6]);
  assert.equal(state.cursor, 7);
});

test("a gap is noticed by prev, and the cursor stays before it", () => {
  const [state, done] = readAll(feed.begin("ab.1", 5), [{ t: "event", prev: 7, seq: 8, items: [item(8)] }]);
  assert.equal(state.cursor, 5);
  assert.equal(done[0].do, "again");
  assert.equal(state.live, false);
});

test("a reset asks for everything anew, and resumes after that read", () => {
  const [state, done] = readAll(feed.begin("ab.1", 5), [{ t: "reset", reason: "trimmed", seq: 900 }]);
  assert.deepEqual(done, [{ do: "refetch", seq: 900 }]);
  assert.equal(state.cursor, 5);
  const [read, next] = feed.fetched(state, 901);
  assert.equal(read.cursor, 901);
  assert.deepEqual(next, [{ do: "resume", epoch: read.epoch, after: 901 }]);
});

test("after a reset a page still knows of which life of the cluster it is", () => {
  const [slow] = readAll(feed.begin("ab.1", 5), [hello, { t: "reset", reason: "slow", seq: 9 }]);
  const [read] = feed.fetched(slow, 9);
  const restored = { ...hello, epoch: "ab.2" };
  const [later, done] = readAll(read, [{ t: "tick", seq: 12, leader: "n4", term: 7 }, restored]);
  assert.deepEqual(done.at(-1), { do: "resume", epoch: "ab.1", after: 12 }, "another life is noticed");
  const [anew] = feed.fetched(readAll(later, [{ t: "reset", reason: "epoch", seq: 3 }])[0], 3);
  assert.deepEqual([anew.epoch, anew.cursor], ["ab.2", 3], "and believed once everything was read from it");
});

test("acks and nacks name the post", () => {
  const nack = { t: "nack", id: "b", code: "invalid", detail: "text: is empty", retry_ms: null };
  const [, done] = readAll(feed.begin(null, null), [{ t: "ack", id: "a", seq: 3 }, nack]);
  assert.deepEqual(done[0], { do: "stored", id: "a", seq: 3 });
  assert.deepEqual(done[1], { do: "refused", id: "b", code: "invalid", detail: "text: is empty", retry_ms: null, errors: [] });
});

test("a lost connection keeps the cursor, and a frame from the future is passed over", () => {
  const [state] = readAll(feed.begin(null, null), [hello, { t: "tick", seq: 9, leader: null, term: 8 }, { t: "news" }]);
  const lost = feed.lost(state);
  assert.deepEqual([lost.live, lost.cursor, lost.epoch], [false, 9, "ab.1"]);
});
