// The quote board in a real browser, on the pages of five real nodes.
//
//   node quotes.mjs '[{"name":"n1","url":"http://127.0.0.1:8000/","pid":4711}, …]'
//
// Kills the node behind the third page on the way. Exits with 1 and a reason if anything is not as it should be.
// With CHORUS_SCREENSHOTS=DIR it also takes the README's picture.

import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';

const FLAGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
];
/** How long a page may take for anything on a busy machine. */
const PATIENCE_MS = 15_000;

const nodes = JSON.parse(process.argv[2]);
const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: FLAGS });
try {
  await main();
} finally {
  await browser.close();
}

async function main() {
  const context = await browser.newContext({ viewport: { width: 900, height: 760 }, colorScheme: 'light' });
  context.setDefaultTimeout(PATIENCE_MS);
  const pages = [];
  for (const node of nodes) pages.push(await openPage(context, node));

  await aQuoteIsOnEveryPage(pages);
  await takeThePicture(context, pages);
  await whatPeopleWriteIsNeverMarkup(pages);
  await aPageOutlivesItsNode(pages);
  await postingWorksWithoutJavaScript(pages);
  noPageComplained(pages);
}

/** Opens a node's page, and waits until it follows the feed. */
async function openPage(context, node) {
  const tab = await context.newPage();
  const page = { tab, node, complaints: [], loads: 0 };
  tab.on('console', (line) => line.type() === 'error' && page.complaints.push(line.text()));
  tab.on('pageerror', (error) => page.complaints.push(String(error)));
  tab.on('load', () => { page.loads += 1; });
  const follows = new Promise((resolve) => {
    tab.on('websocket', (socket) => socket.on('framesent', ({ payload }) => {
      if (String(payload).includes('"resume"')) resolve();
    }));
  });
  const answer = await tab.goto(node.url);
  assert.equal(answer.status(), 200);
  const policy = answer.headers()['content-security-policy'] ?? '';
  assert.match(policy, /default-src 'none'|default-src 'self'/, 'a strict policy');
  assert.doesNotMatch(policy, /unsafe-inline|unsafe-eval/, policy);
  await within(follows, `${node.name}'s page follows the feed`);
  return page;
}

async function aQuoteIsOnEveryPage(pages) {
  const text = 'Machines come and go; what was said stays.';
  const begun = performance.now();
  await write(pages[0], 'Ada', text);
  const took = await Promise.all(pages.map(async (page) => {
    await shows(page, text);
    return performance.now() - begun;
  }));
  console.log(`measured: from a click on one page to the last of five pages: ${Math.max(...took).toFixed(0)} ms`);
  for (const page of pages) assert.equal(page.loads, 1, 'a page that is alive does not load again');
  for (const page of pages) assert.equal(await page.tab.getByText(text, { exact: true }).count(), 1, 'once');
}

async function whatPeopleWriteIsNeverMarkup(pages) {
  const text = '<b onmouseover="boom()">bold?</b> <script>boom()</script> &amp;';
  await write(pages[1], '<i>Eve</i>', text);
  for (const page of pages) {
    await shows(page, text);
    assert.equal(await page.tab.locator('b[onmouseover]').count(), 0);
  }
  const { tab } = pages[4];
  await tab.reload();
  await shows(pages[4], text);
  assert.equal(await tab.locator('b[onmouseover]').count(), 0, 'nor in what the node renders');
}

async function aPageOutlivesItsNode(pages) {
  const orphan = pages[2];
  const { complaints } = orphan;
  const quiet = complaints.length;
  process.kill(orphan.node.pid, 'SIGKILL');
  const text = `Written after ${orphan.node.name} died.`;
  await write(pages[0], 'Grace', text);
  await shows(orphan, text);
  const answer = `${orphan.node.name}'s page still writes.`;
  await write(orphan, 'Barbara', answer);
  for (const page of pages) await shows(page, answer);
  assert.equal(orphan.loads, 1, 'the page was not loaded again');
  // The browser itself reports each connection that a dead node refuses; nothing else may be said.
  const dead = new URL(orphan.node.url).host;
  complaints.splice(quiet, complaints.length, ...complaints.slice(quiet).filter((line) => !line.includes(dead)
    && !line.includes('ERR_CONNECTION_REFUSED')));
}

async function postingWorksWithoutJavaScript(pages) {
  const context = await browser.newContext({ javaScriptEnabled: false });
  context.setDefaultTimeout(PATIENCE_MS);
  const tab = await context.newPage();
  await tab.goto(pages[1].node.url);
  const text = 'No script ran to post this.';
  const plain = { tab, node: pages[1].node };
  await write(plain, 'Hedy', text);
  await shows(plain, text);
  assert.equal(new URL(tab.url()).pathname, '/', 'the form leads back to the page');
  for (const page of pages) await shows(page, text);
  await context.close();
}

function noPageComplained(pages) {
  for (const page of pages) assert.deepEqual(page.complaints, [], `${page.node.name}'s page is silent`);
}

async function takeThePicture(context, pages) {
  const directory = process.env.CHORUS_SCREENSHOTS;
  if (!directory) return;
  const words = [
    ['Barbara', 'A log is a promise with numbers on it.'],
    ['Grace', 'Ask any of us; we all tell the same.'],
    ['Hedy', 'Whoever leads, the order stays.'],
  ];
  for (const [n, [author, text]] of words.entries()) {
    await write(pages[n + 2], author, text);
    await shows(pages[0], text);
  }
  // A page of its own, without the focus and the highlights of what has just happened.
  const tab = await context.newPage();
  await tab.setViewportSize({ width: 900, height: 942 });
  await tab.goto(pages[0].node.url);
  await tab.locator('#state[data-level=live]').waitFor();
  await tab.screenshot({ path: `${directory}/quotes.png`, animations: 'disabled' });
  await tab.close();
}

async function write({ tab }, author, text) {
  const form = tab.locator('form[action="/quotes"]');
  await form.locator('[name=author]').fill(author);
  await form.locator('[name=text]').fill(text);
  await form.locator('button[type=submit], button:not([type])').first().click();
}

async function shows({ tab, node }, text) {
  const found = tab.getByText(text, { exact: true });
  await found.first().waitFor({ state: 'visible' }).catch((error) => {
    throw new Error(`${node.name}'s page does not show '${text}': ${error.message}`);
  });
}

function within(promise, what) {
  const late = new Promise((_, reject) => {
    setTimeout(() => reject(new Error(`in vain for ${PATIENCE_MS} ms: ${what}`)), PATIENCE_MS).unref();
  });
  return Promise.race([promise, late]);
}
