// Lighthouse on every page: 95 of 100 at least for accessibility and for best practice.
//
//   node lighthouse.mjs '[{"name":"n1","url":"http://127.0.0.1:8000/","pid":4711}, …]'

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';
import lighthouse, { desktopConfig } from 'lighthouse';
import { nodes, withBrowser } from './browser.mjs';
import { fill } from './pages.mjs';

/** Of 100. */
const SCORE_MIN = 95;
const CATEGORIES = ['accessibility', 'best-practices'];
/** Pages whose streams never end are not waited for. */
const LOAD_MAX_MS = 5_000;
const LOOKS_MAX = 3;

const [node] = nodes();
/** What is too low, and why: all of it is told at once. */
const findings = [];

if (isMainThread) {
  // It judges no page whose status is an error.
  const paths = (await filled()).filter((path) => path !== '/nowhere');
  await Promise.all((await freePorts(2)).map((port, half) => withBrowser(
    () => lookAside(port, paths.filter((_, n) => n % 2 === half)),
    [`--remote-debugging-port=${port}`],
  )));
  assert.deepEqual(findings, []);
} else {
  const { port, paths } = workerData;
  for (const path of paths) await look(port, path);
  parentPort.postMessage(findings);
}

async function filled() {
  let paths = [];
  await withBrowser(async (browser) => { paths = await fill(browser, node); });
  return paths;
}

/** One of two at a time, each with a browser of its own; and with a thread, as Lighthouse runs only once in each. */
async function lookAside(port, paths) {
  const thread = new Worker(new URL(import.meta.url), { argv: process.argv.slice(2), workerData: { port, paths } });
  const [told] = await once(thread, 'message');
  findings.push(...told);
}

/** As Lighthouse does by default: it only computes what a slow network does, and waits for a second of silence, not for five. */
async function look(port, path) {
  const flags = { port, logLevel: 'error', output: 'json', onlyCategories: CATEGORIES, maxWaitForLoad: LOAD_MAX_MS, disableFullPageScreenshot: true };
  const report = async () => (await lighthouse(new URL(path, node.url).href, flags, desktopConfig)).lhr;
  let told = await report();
  // On a busy machine a page may not be there in time.
  for (let looks = 1; told.runtimeError && looks < LOOKS_MAX; looks += 1) told = await report();
  const { categories, audits, runtimeError } = told;
  if (runtimeError) findings.push(`${path}: ${runtimeError.message}`);
  const scores = CATEGORIES.map((name) => [name, Math.round((categories[name].score ?? 0) * 100)]);
  console.log(`measured: Lighthouse on ${path}: ${scores.map(([name, score]) => `${name} ${score}`).join(', ')}`);
  for (const [name, score] of scores) {
    if (score >= SCORE_MIN) continue;
    const failed = categories[name].auditRefs.map(({ id }) => audits[id]).filter((audit) => audit.score !== null && audit.score < 1);
    findings.push(`${path}: ${name} ${score}: ${failed.map((audit) => audit.title).join('; ')}`);
  }
}

/** So many ports that are free, below those that the system gives to whoever wants just any. */
async function freePorts(count) {
  const ports = new Set();
  while (ports.size < count) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    const server = createServer().listen(port, '127.0.0.1');
    if (!await once(server, 'listening').then(() => true, () => false)) continue;
    await once(server.close(), 'close');
    ports.add(port);
  }
  return [...ports];
}
