// Ten thousand quotes on the board: the page follows them, scrolling stays smooth, and it does not grow without end.
//
//   node many.mjs '[{"name":"n1","url":"http://127.0.0.1:8000/","pid":4711}, …]'

import assert from 'node:assert/strict';
import { live, newWindow, nodes, openLive, shows, silent, until, withBrowser } from './browser.mjs';

const QUOTES = 10_000;
/** Requests on their way at once. */
const WRITERS = 32;
/** While somebody scrolls, nothing keeps the page for longer: computing, not waiting for a core that computes something else. */
const TASK_MS = 50;
const SCROLLS_MAX = 3;
const HEAP_BYTES_MAX = 32 * 1024 * 1024;
const ELEMENTS_MAX = 6_000;

const [node] = nodes();

await withBrowser(async (browser) => {
  const context = await newWindow(browser);
  const page = await openLive(context, node);
  await page.tab.evaluate(noteLongTasks);
  const following = await fill();
  await until(async () => await page.tab.locator('#quotes > li').first().getByText('of ten thousand').count() === 1, 'the page has followed');
  await shows(page, `${following} of ten thousand: a quote like all the others.`);
  const whileFilling = await page.tab.evaluate(() => window.tasks.splice(0));
  console.log(`measured: ${whileFilling.length} tasks over ${TASK_MS} ms while ${QUOTES} quotes came, longest ${Math.max(0, ...whileFilling).toFixed(0)} ms`);

  await scroll(browser, page);
  await page.tab.goto(node.url);
  await live(page);
  await scroll(browser, page);
  for (let pages = 0; pages < 5; pages += 1) {
    const from = page.tab.url();
    await page.tab.getByRole('link', { name: 'Older quotes' }).click();
    await page.tab.waitForURL(({ href }) => href !== from && href.includes('before='));
  }
  assert.equal(await page.tab.locator('#quotes > li').count(), 50, 'older ones come page by page');
  silent(page);
});

/** Posts them all; the number of the last one. */
async function fill() {
  let next = 0;
  const write = async () => {
    while (next < QUOTES) {
      const number = (next += 1);
      await until(() => post(number), `${number} of ten thousand is stored`);
    }
  };
  const begun = performance.now();
  await Promise.all(Array.from({ length: WRITERS }, write));
  console.log(`measured: ${QUOTES} quotes written in ${((performance.now() - begun) / 1_000).toFixed(1)} s`);
  // The last ones were written side by side: the newest of the log is not the newest here.
  const newest = await (await fetch(new URL('/api/v1/quotes?limit=1', node.url))).json();
  return Number.parseInt(newest.items[0].text, 10);
}

/** Posts one; whether it was stored. While nobody leads it is not, and is posted again under its key. */
async function post(number) {
  const text = `${number} of ten thousand: a quote like all the others.`;
  const answer = await fetch(new URL('/api/v1/quotes', node.url), {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', 'Idempotency-Key': `of-ten-thousand-${number}` },
    body: JSON.stringify({ author: 'Ada', text }),
    signal: AbortSignal.timeout(30_000),
  });
  const said = await answer.text();
  assert.ok([201, 503, 504].includes(answer.status), said);
  return answer.status === 201;
}

/** Runs in the page. */
function noteLongTasks() {
  window.tasks = [];
  new PerformanceObserver((list) => window.tasks.push(...list.getEntries().map((task) => task.duration))).observe({ type: 'longtask' });
}

async function scroll(browser, { tab }) {
  // A long task may be the machine's, which stands still now and then: not in each of three scrolls.
  const longest = [];
  while (longest.length < SCROLLS_MAX && longest.every((ms) => ms > TASK_MS)) longest.push(await scrollOnce(browser, tab));
  const rows = await tab.locator('#quotes > li').count();
  const session = await tab.context().newCDPSession(tab);
  await session.send('HeapProfiler.collectGarbage');
  const { usedSize } = await session.send('Runtime.getHeapUsage');
  const elements = await tab.evaluate(() => document.querySelectorAll('*').length);
  console.log(`measured: scrolling over ${rows} rows: longest task ${longest.map((ms) => ms.toFixed(1)).join(', ')} ms of computing, heap ${(usedSize / 1024 / 1024).toFixed(1)} MiB, ${elements} elements`);
  assert.ok(Math.min(...longest) <= TASK_MS, `tasks of ${longest} ms while scrolling`);
  assert.ok(usedSize <= HEAP_BYTES_MAX && elements <= ELEMENTS_MAX, `${usedSize} bytes, ${elements} elements`);
}

/** Down and up again; the longest task meanwhile, in milliseconds. */
async function scrollOnce(browser, tab) {
  await browser.startTracing(tab, { categories: ['toplevel'] });
  for (let n = 0; n < 40; n += 1) {
    await tab.mouse.wheel(0, n < 30 ? 700 : -1_500);
    await tab.evaluate(() => new Promise((resolve) => { requestAnimationFrame(resolve); }));
  }
  const longest = longestTaskMs(JSON.parse(String(await browser.stopTracing())).traceEvents);
  assert.ok(longest > 0, 'tasks are traced');
  return longest;
}

/** What the page's own thread computed at one go, at most, in milliseconds. */
function longestTaskMs(events) {
  const mains = events.filter(({ name, args }) => name === 'thread_name' && args.name === 'CrRendererMain').map(({ pid, tid }) => `${pid} ${tid}`);
  assert.ok(mains.length > 0, 'the page has a thread');
  // One that was cut by the trace's beginning or end has no measure.
  const tasks = events.filter(({ name, ph, pid, tid, tdur }) => ph === 'X' && tdur !== undefined && name.endsWith('RunTask') && mains.includes(`${pid} ${tid}`));
  return Math.max(0, ...tasks.map(({ tdur }) => tdur / 1_000));
}
