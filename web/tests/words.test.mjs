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

test("a clock is measured by what was said", () => {
  assert.equal(words.ahead("2026-11-21T12:03:11Z", Date.UTC(2026, 10, 21, 10, 3, 11)), 7_200_000);
  assert.equal(words.ahead("2026-11-21T12:03:11Z", Date.UTC(2026, 10, 22, 12, 3, 11)), -86_400_000);
  assert.equal(words.ahead("", 5), 0);
});

test("how long ago a node was heard, and how", () => {
  assert.deepEqual([null, 420, 61_000].map((ms) => words.heard(ms)), ["never", "0.4 s ago", "61 s ago"]);
  assert.equal(words.heard(420, "multicast"), "0.4 s ago");
  assert.equal(words.heard(420, "unicast"), "0.4 s ago, by unicast");
});

test("how well one node hears another", () => {
  assert.deepEqual(words.link({ heard_ms: 40 }, { rounds: 200, missed: 0 }), { text: "yes, 0 % lost", level: "good" });
  assert.deepEqual(words.link({ heard_ms: 40 }, { rounds: 200, missed: 60 }), { text: "yes, 30 % lost", level: "weak" });
  assert.equal(words.link({ heard_ms: 40, heard_by: "unicast" }, null).text, "by unicast");
  assert.deepEqual(words.link({ heard_ms: 4_000 }, null), { text: "not for 4 s", level: "none" });
  assert.equal(words.link(null, null).level, "unknown");
  assert.deepEqual([words.lost(null), words.lost({ rounds: 250, missed: 5 })], ["–", "2 % of 250"]);
});

test("how long somebody led, and nobody", () => {
  assert.deepEqual([null, 240, 4_000, 300_000, 9e6].map(words.lasted), ["leads now", "led for 240 ms", "led for 4.0 s", "led for 5 min", "led for 2 h"]);
  assert.deepEqual([null, 240].map(words.without), ["", "after 240 ms without a leader"]);
});

test("what would act unseen is seen, and everything else stays", () => {
  assert.equal(words.visible("pay \u202e001\u202c now\u0007"), "pay ⟨U+202E⟩001⟨U+202C⟩ now⟨U+0007⟩");
  for (const text of ["two\nlines\tand\r\nmore", "família 👩‍👩‍👧", "שלום عالم", "می‌خواهم"]) assert.equal(words.visible(text), text);
});
