// Posts on their way.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as mail from "../assets/outbox.js";

const post = { id: "a", author: "Ada", text: "x" };
const ids = (/** @type {mail.Post[]} */ posts) => posts.map((one) => one.id);

test("a post is sent at once, and not again before its answer is overdue", () => {
  let outbox = mail.add([], post, 0);
  assert.deepEqual(ids(mail.due(outbox, 0)), ["a"]);
  outbox = mail.sent(outbox, "a", 0);
  assert.deepEqual(mail.due(outbox, 6_000), []);
  assert.deepEqual(ids(mail.due(outbox, 7_000)), ["a"]);
});

test("a broken connection sends what was not answered again, under the same id", () => {
  const outbox = mail.broken(mail.sent(mail.add([], post, 0), "a", 0), 10);
  assert.deepEqual(ids(mail.due(outbox, 10)), ["a"]);
});

test("what passes is tried again later, what cannot be is for a person to see", () => {
  const sent = mail.sent(mail.add([], post, 0), "a", 0);
  const waits = mail.refused(sent, { id: "a", code: "no_leader", detail: "nobody leads", retry_ms: 300 }, 100);
  assert.equal(waits[0].state, "waiting");
  assert.deepEqual(mail.due(waits, 100), []);
  assert.deepEqual(ids(mail.due(waits, 1_000)), ["a"]);
  const failed = mail.refused(sent, { id: "a", code: "invalid", detail: "text: is empty", retry_ms: null, errors: [{ field: "text", detail: "is empty" }] }, 100);
  assert.equal(failed[0].state, "failed");
  assert.deepEqual(mail.due(failed, 1e9), []);
  assert.deepEqual(ids(mail.due(mail.retry(failed, "a", 200), 200)), ["a"]);
});

test("nobody waits for ever: after many tries a person decides", () => {
  let outbox = mail.add([], post, 0);
  for (let now = 0; outbox[0].state !== "failed"; now += 10_000) {
    assert.ok(now < 1e6);
    outbox = mail.refused(mail.sent(outbox, "a", now), { id: "a", code: "no_leader", detail: "", retry_ms: null }, now);
  }
  assert.equal(outbox[0].tries, 20);
});

test("what is stored is gone, whoever says so", () => {
  const outbox = mail.add([], post, 0);
  assert.deepEqual(mail.stored(outbox, "a"), []);
  assert.equal(mail.stored(outbox, "b"), outbox);
});

test("a reload sends again what had no answer; damage is no post", () => {
  const kept = JSON.stringify(mail.sent(mail.add([], post, 0), "a", 0)[0]);
  const later = JSON.stringify({ ...post, id: "b" });
  assert.deepEqual(ids(mail.due(mail.restore([later, kept], 50), 50)), ["a", "b"]);
  for (const text of [null, "", "{", "7", '{"id":7}', "[null]"]) assert.deepEqual(mail.restore([text], 0), []);
});

test("of two tabs one sends, and the other only if that one leaves it", () => {
  const theirs = mail.add([], post, 0)[0];
  const here = mail.adopt([], "a", JSON.stringify(theirs), 100);
  assert.deepEqual(mail.due(here, 7_000), []);
  assert.deepEqual(ids(mail.due(here, 7_100)), ["a"]);
  assert.equal(mail.adopt(here, "a", JSON.stringify({ ...theirs, state: "failed", why: "x" }), 200)[0].state, "failed");
  assert.deepEqual(ids(mail.adopt(here, "b", JSON.stringify({ ...theirs, id: "b" }), 200)), ["a", "b"]);
});

test("of what another tab did only what is kept now counts", () => {
  const kept = JSON.stringify(mail.add([], post, 0)[0]);
  // Seen on the feed and forgotten, then comes the word that it was being sent: nothing is kept, nothing comes back.
  assert.deepEqual(mail.adopt([], "a", null, 100), []);
  // It was not seen here yet, and is stored meanwhile.
  assert.deepEqual(mail.adopt(mail.adopt([], "a", kept, 100), "a", null, 200), []);
  // Forgotten and kept again by the time the word of the forgetting comes: it is on its way.
  assert.deepEqual(ids(mail.adopt([], "a", kept, 100)), ["a"]);
  // Damage is nothing; and nobody else's post goes with it.
  const both = mail.add(mail.add([], post, 0), { ...post, id: "b" }, 0);
  for (const text of [null, "", "{", "7", "[null]"]) assert.deepEqual(ids(mail.adopt(both, "a", text, 100)), ["b"]);
  assert.equal(mail.adopt(both, "c", null, 100), both);
});

test("what is kept changes by what has changed", () => {
  const before = mail.add(mail.add([], post, 0), { ...post, id: "b" }, 0);
  const next = mail.sent(mail.stored(before, "a"), "b", 5);
  const { kept, forgotten } = mail.difference(before, next);
  assert.deepEqual([ids(kept), forgotten], [["b"], ["a"]]);
  assert.deepEqual(mail.difference(next, next), { kept: [], forgotten: [] });
});

test("an outbox has a limit", () => {
  let outbox = [];
  for (let n = 0; n < 100; n += 1) outbox = mail.add(outbox, { ...post, id: String(n) }, 0);
  assert.equal(outbox.length, mail.POSTS_MAX);
});
