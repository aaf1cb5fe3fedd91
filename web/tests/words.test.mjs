// What the page says.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as words from "../assets/words.js";

const link = { phase: /** @type {const} */ ("open"), live: true, node: "n2", leader: "n4", term: 7, as_of_ms: 0, online: true };
const clock = () => "12:03:11";

test("the connection is said in words", () => {
  assert.deepEqual(words.state(link, clock), { level: "live", words: "Connected to n2, leader n4, term 7" });
  assert.deepEqual(words.state({ ...link, leader: null }, clock), { level: "readonly", words: "Connected to n2, read-only: no leader, no majority" });
  assert.deepEqual(words.state({ ...link, phase: "waiting" }, clock), { level: "waiting", words: "As of 12:03:11, reconnecting" });
  assert.deepEqual(words.state({ ...link, phase: "waiting", online: false }, clock), { level: "offline", words: "As of 12:03:11, offline" });
  assert.equal(words.state({ ...link, live: false }, clock).level, "waiting");
});

test("a wait is counted in whole seconds", () => {
  assert.deepEqual([0, 1, 1_000, 2_001].map(words.countdown), ["now", "in 1 s", "in 1 s", "in 3 s"]);
});

test("a new id is a UUID of version 7, ordered by time", () => {
  const id = words.uuid7(0x0199_1234_5678, new Uint8Array(10).fill(255));
  assert.equal(id, "01991234-5678-7fff-bfff-ffffffffffff");
  assert.ok(words.uuid7(1_000, new Uint8Array(10)) < words.uuid7(1_001, new Uint8Array(10)));
});

test("how long ago a node was heard", () => {
  assert.deepEqual([null, 420, 61_000].map(words.heard), ["never", "0.4 s ago", "61 s ago"]);
});
