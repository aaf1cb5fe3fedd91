// When to try again, and where.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as backoff from "../assets/backoff.js";

const peers = ["n1", "n2", "n3", "n4", "n5"].map((name, place) => ({ name, url: `http://127.0.0.1:800${place}` }));

test("a page that lost its node has asked every other one within a second", () => {
  let sum = 0;
  const asked = new Set();
  for (let failures = 0; failures <= peers.length; failures += 1) {
    sum += backoff.waitMs(failures, peers.length, 1);
    asked.add(backoff.target(peers, peers[2].url, failures));
  }
  assert.equal(asked.size, peers.length);
  assert.ok(sum <= 1_000, `${sum} ms`);
});

test("its own node is asked first", () => {
  assert.equal(backoff.target(peers, peers[2].url, 0), peers[2].url);
});

test("waits grow with every round, and never beyond five seconds", () => {
  const waits = Array.from({ length: 200 }, (_, failures) => backoff.waitMs(failures, peers.length, 1));
  for (let place = 1; place < waits.length; place += 1) assert.ok(waits[place] >= waits[place - 1]);
  assert.equal(waits.at(-1), 5_000);
  assert.ok(backoff.waitMs(199, peers.length, 0) >= 2_500);
});

test("a page without peers asks its own node again and again", () => {
  assert.equal(backoff.target([], "http://here", 7), "http://here");
});

test("nodes are known once by name, and by their origin", () => {
  const known = backoff.merge([{ name: "n1", url: "http://old:1/" }], [{ name: "n1", url: "http://new:2/x" }, { name: "n9", url: "no url" }]);
  assert.deepEqual(known, [{ name: "n1", url: "http://new:2" }]);
  assert.equal(backoff.merge(known, []), known);
});
