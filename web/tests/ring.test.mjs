// The picture of the cluster.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as ring from "../assets/ring.js";

test("the first node stands on top, the others follow clockwise, all of them within the picture", () => {
  const [top, right] = ring.places(4);
  assert.ok(top.y < right.y && right.x > top.x);
  for (const count of [1, 3, 5, 9, 25]) {
    for (const { x, y } of ring.places(count)) assert.ok(x > 40 && x < ring.WIDTH - 40 && y > 30 && y < ring.HEIGHT - 90, `${count}: ${x}, ${y}`);
  }
});

test("an arrow goes from rim to rim", () => {
  const path = ring.path({ x: 0, y: 0 }, { x: 100, y: 0 }, 30);
  assert.deepEqual(path, [{ x: 30, y: 0 }, { x: 70, y: 0 }]);
  assert.deepEqual(ring.along(path, 0.5), { x: 50, y: 0 });
});

test("a strip is the end of a log, with what is applied, committed, only stored, and missing", () => {
  const cells = ring.strip({ last_index: 98, commit_index: 96, applied_index: 95 }, 100);
  assert.equal(cells.length, ring.STRIP);
  assert.deepEqual(cells.slice(-6).map(({ state }) => state), ["applied", "committed", "stored", "stored", "missing", "missing"]);
  assert.equal(ring.strip({ last_index: 0, commit_index: 0, applied_index: 0 }, 0).length, 0);
});

test("what goes to the group goes to everyone else, and what comes from a stranger is not drawn", () => {
  const nodes = ["n1", "n2", "n3"].map((name) => ({ name, id: `id-${name}` }));
  const flight = { message: "HEARTBEAT", received: false, peer: null, direct: false, ago_ms: 3 };
  const ways = (/** @type {any} */ more) => ring.arrows({ ...flight, ...more }, "n1", nodes).map(({ from, to }) => `${from}→${to}`);
  assert.deepEqual(ways({}), ["n1→n2", "n1→n3"]);
  assert.deepEqual(ways({ received: true, peer: "id-n3" }), ["n3→n1"]);
  assert.deepEqual(ways({ peer: "id-n2", direct: true }), ["n1→n2"]);
  assert.deepEqual(ways({ received: true, peer: "id-of-a-controller" }), []);
});

test("who led, newest first, and how long nobody did", () => {
  const reigns = [
    { at_ms: 1_000, term: 1, leader: "n1" },
    { at_ms: 5_000, term: 1, leader: null },
    { at_ms: 5_200, term: 2, leader: null },
    { at_ms: 5_240, term: 2, leader: "n3" },
  ];
  assert.deepEqual(ring.timeline(reigns), [
    { at_ms: 5_240, term: 2, leader: "n3", without_ms: 240, lasted_ms: null },
    { at_ms: 1_000, term: 1, leader: "n1", without_ms: null, lasted_ms: 4_000 },
  ]);
});
