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

test("a reload sends again what had no answer; damage is an empty outbox", () => {
  const kept = JSON.stringify(mail.sent(mail.add([], post, 0), "a", 0));
  assert.deepEqual(ids(mail.due(mail.restore(kept, 50), 50)), ["a"]);
  for (const text of [null, "", "{", "7", '[{"id":7}]', "[null]"]) assert.deepEqual(mail.restore(text, 0), []);
});

test("two tabs lose nothing to each other", () => {
  const own = mail.add([], post, 0);
  const theirs = mail.add([], { ...post, id: "b" }, 0);
  assert.deepEqual(ids(mail.join(own, theirs)), ["a", "b"]);
  assert.deepEqual(ids(mail.join(own, [])), ["a"]);
});

test("an outbox has a limit", () => {
  let outbox = [];
  for (let n = 0; n < 100; n += 1) outbox = mail.add(outbox, { ...post, id: String(n) }, 0);
  assert.equal(outbox.length, mail.POSTS_MAX);
});
