// What a key means.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as shortcuts from "../assets/shortcuts.js";

const stroke = (/** @type {string} */ key, more = {}) => ({ key, chord: false, typing: false, at_ms: 0, ...more });

test("one key acts at once, two act together within a moment", () => {
  assert.deepEqual(shortcuts.read(null, stroke("?")), [null, { show: true }]);
  const [begun, nothing] = shortcuts.read(null, stroke("g"));
  assert.equal(nothing, null);
  assert.deepEqual(shortcuts.read(begun, stroke("c", { at_ms: 1_400 })), [null, { go: "/cluster" }]);
  assert.deepEqual(shortcuts.read(begun, stroke("c", { at_ms: 1_600 })), [null, null]);
});

test("whoever types, or speaks to the browser, means no shortcut", () => {
  for (const more of [{ typing: true }, { chord: true }]) assert.deepEqual(shortcuts.read(null, stroke("n", more)), [null, null]);
  for (const key of ["Enter", "Shift", "x"]) assert.deepEqual(shortcuts.read(null, stroke(key)), [null, null]);
});

test("no two shortcuts are the same, and none begins another", () => {
  const all = shortcuts.SHORTCUTS.map(({ keys }) => keys);
  assert.equal(new Set(all).size, all.length);
  for (const keys of all) assert.ok(!all.some((other) => other.startsWith(`${keys} `)), keys);
});
