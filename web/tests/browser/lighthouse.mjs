// Lighthouse on every page: 95 of 100 at least for accessibility and for best practice.
//
//   node lighthouse.mjs '[{"name":"n1","url":"http://127.0.0.1:8000/","pid":4711}, …]'

import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import lighthouse, { desktopConfig } from 'lighthouse';
import { nodes, withBrowser } from './browser.mjs';
import { fill } from './pages.mjs';

/** Of 100. */
const SCORE_MIN = 95;
const CATEGORIES = ['accessibility', 'best-practices'];
/** Pages whose streams never end are not waited for. */
const LOAD_MAX_MS = 5_000;

const [node] = nodes();
const port = await freePort();
/** What is too low, and why: all of it is told at once. */
const findings = [];

await withBrowser(async (browser) => {
  // It judges no page whose status is an error.
  const paths = await fill(browser, node);
  for (const path of paths.filter((one) => one !== '/nowhere')) await look(path);
}, [`--remote-debugging-port=${port}`]);
assert.deepEqual(findings, []);

async function look(path) {
  const flags = { port, logLevel: 'error', output: 'json', onlyCategories: CATEGORIES, maxWaitForLoad: LOAD_MAX_MS, throttlingMethod: 'provided', disableFullPageScreenshot: true };
  const run = await lighthouse(new URL(path, node.url).href, flags, desktopConfig);
  const { categories, audits, runtimeError } = run.lhr;
  if (runtimeError) findings.push(`${path}: ${runtimeError.message}`);
  const scores = CATEGORIES.map((name) => [name, Math.round((categories[name].score ?? 0) * 100)]);
  console.log(`measured: Lighthouse on ${path}: ${scores.map(([name, score]) => `${name} ${score}`).join(', ')}`);
  for (const [name, score] of scores) {
    if (score >= SCORE_MIN) continue;
    const failed = categories[name].auditRefs.map(({ id }) => audits[id]).filter((audit) => audit.score !== null && audit.score < 1);
    findings.push(`${path}: ${name} ${score}: ${failed.map((audit) => audit.title).join('; ')}`);
  }
}

async function freePort() {
  const server = createServer();
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  const { port: free } = server.address();
  await new Promise((resolve) => { server.close(resolve); });
  return free;
}
