// Every page, in both themes and at three widths: axe-core finds nothing, nothing is wider than the screen, every target is
// large enough, and the first load is small.
//
//   node accessible.mjs '[{"name":"n1","url":"http://127.0.0.1:8000/","pid":4711}, …]'

import assert from 'node:assert/strict';
import axe from 'axe-core';
import { byTwos, live, newTab, newWindow, nodes, silent, withBrowser } from './browser.mjs';
import { fill } from './pages.mjs';

/** Bytes of a page and all that it loads at first. */
const FIRST_LOAD_BYTES_MAX = 60_000;
const RULES = { runOnly: { type: 'tag', values: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] } };
const WIDTHS = [320, 800, 1600];
/** A window of 1,280 by 1,024 at 400 % (WCAG 2.2, 1.4.10). */
const ZOOMED = { width: 320, height: 256 };
/** CSS pixels: our own measure, beyond the 24 of WCAG 2.2. */
const TARGET_MIN = 44;

const all = nodes();
const [node] = all;
/** What is wrong, and where: all of it is told at once. */
const findings = [];

await withBrowser(async (browser) => {
  const paths = await fill(browser, node);
  for (const colorScheme of ['light', 'dark']) {
    // axe-core brings itself into the page; what the page itself may do is looked at elsewhere.
    const context = await newWindow(browser, { colorScheme, bypassCSP: true, reducedMotion: 'reduce' });
    const views = WIDTHS.flatMap((width) => paths.map((path) => [path, width]));
    await byTwos(views, ([path, width]) => look(context, path, width, colorScheme));
    // The places are the same in both.
    if (colorScheme === 'light') await byTwos(paths, (path) => zoom(context, path, colorScheme));
    await context.close();
  }
  assert.deepEqual(findings.toSorted(), []);
  await theListOfShortcuts(browser);
  await firstLoads(browser, paths.filter((path) => path !== '/nowhere'));
});

async function look(context, path, width, scheme) {
  const where = `${path} at ${width} px, ${scheme}`;
  const { tab } = await newTab(context);
  await tab.setViewportSize({ width, height: 900 });
  await tab.goto(new URL(path, node.url).href, { waitUntil: 'load' });
  const wide = await tab.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  if (wide > 0) findings.push(`${where}: ${wide} px too wide`);
  const small = await tab.evaluate(smallTargets, TARGET_MIN);
  findings.push(...small.map((target) => `${where}: below ${TARGET_MIN} px: ${target}`));
  await tab.evaluate(axe.source);
  const { violations } = await tab.evaluate((rules) => window.axe.run(document, rules), RULES);
  for (const { id, nodes: places } of violations) findings.push(`${where}: ${id}: ${places.map((place) => place.html.slice(0, 160)).join(' | ')}`);
  await tab.close();
}

/** At 400 % everything is one column that scrolls one way, and whatever has the focus can be seen. */
async function zoom(context, path, scheme) {
  const where = `${path} at 400 %, ${scheme}`;
  const { tab } = await newTab(context);
  await tab.setViewportSize(ZOOMED);
  await tab.goto(new URL(path, node.url).href, { waitUntil: 'load' });
  const wide = await tab.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  if (wide > 0) findings.push(`${where}: ${wide} px too wide`);
  for (let n = 0; n < 12; n += 1) {
    await tab.keyboard.press('Tab');
    const hidden = await tab.evaluate(covered);
    if (hidden) findings.push(`${where}: has the focus and cannot be seen: ${hidden}`);
  }
  await tab.close();
}

/** Runs in the page: what has the focus, if all of it is outside the window or under something else (WCAG 2.2, 2.4.11). */
function covered() {
  const one = document.activeElement;
  if (!one || one === document.body) return null;
  const box = one.getBoundingClientRect();
  const points = [0.1, 0.5, 0.9].flatMap((x) => [0.1, 0.5, 0.9].map((y) => [box.left + box.width * x, box.top + box.height * y]));
  const seen = points.some(([x, y]) => {
    const there = document.elementFromPoint(x, y);
    return there !== null && (one.contains(there) || there.contains(one));
  });
  return seen ? null : one.outerHTML.slice(0, 120);
}

/** Runs in the page: what can be pressed and is too small, but for links within a sentence (WCAG 2.2, 2.5.8). */
function smallTargets(least) {
  const inSentence = (one) => one.tagName === 'A' && getComputedStyle(one).display === 'inline';
  const hidden = (one) => one.closest('[hidden], .visually-hidden, .skip') !== null;
  const all = [...document.querySelectorAll('a, button, input:not([type=hidden]), select, textarea')];
  const shown = all.filter((one) => !hidden(one) && !inSentence(one) && one.getClientRects().length > 0);
  return shown.filter((one) => {
    const box = (one.type === 'checkbox' ? one.closest('label') ?? one : one).getBoundingClientRect();
    return box.height < least - 0.5 || box.width < least - 0.5;
  }).map((one) => one.outerHTML.slice(0, 120));
}

/** The page's own policy is in force here. */
async function theListOfShortcuts(browser) {
  const context = await newWindow(browser);
  const page = await newTab(context);
  const { tab } = page;
  await tab.goto(node.url);
  await live(page);
  await tab.keyboard.press('Tab');
  assert.equal(await tab.evaluate(() => document.activeElement?.className), 'skip', 'the first stop leads to the content');
  await tab.keyboard.press('Enter');
  assert.equal(await tab.evaluate(() => document.activeElement?.id), 'main');
  await tab.keyboard.press('?');
  await tab.locator('dialog[open]').waitFor();
  await tab.getByLabel('Single keys are shortcuts').uncheck();
  await tab.keyboard.press('Escape');
  await tab.keyboard.press('n');
  assert.equal(await tab.evaluate(() => document.activeElement?.id), 'main', 'who turns shortcuts off has none');
  await tab.getByRole('button', { name: 'Keyboard shortcuts' }).click();
  await tab.getByLabel('Single keys are shortcuts').check();
  await tab.keyboard.press('Escape');
  await tab.locator('main').focus();
  await tab.keyboard.press('n');
  assert.equal(await tab.evaluate(() => document.activeElement?.id), 'text', 'n writes something new');
  await tab.keyboard.type('n?gc');
  assert.equal(await tab.locator('#text').inputValue(), 'n?gc', 'a key is a letter where one writes');
  await tab.locator('main').focus();
  await tab.keyboard.press('g');
  await tab.keyboard.press('c');
  await tab.waitForURL('**/cluster');
  silent(page);
  await context.close();
}

async function firstLoads(browser, paths) {
  await byTwos(paths, async (path) => {
    const context = await newWindow(browser);
    const { tab } = await newTab(context);
    const foreign = [];
    let bytes = 0;
    const bodies = [];
    tab.on('request', (request) => {
      // The cluster's page asks the other nodes too; nothing asks anybody else.
      if (!all.some(({ url }) => new URL(url).host === new URL(request.url()).host)) foreign.push(request.url());
    });
    tab.on('requestfinished', (request) => bodies.push(request.sizes().then((sizes) => { bytes += sizes.responseBodySize; }, () => {})));
    await tab.goto(new URL(path, node.url).href, { waitUntil: 'load' });
    await Promise.all(bodies);
    console.log(`measured: the first load of ${path}: ${bytes} bytes`);
    assert.deepEqual(foreign, [], `${path} asks nobody else`);
    assert.ok(bytes > 0 && bytes <= FIRST_LOAD_BYTES_MAX, `${path}: ${bytes} bytes`);
    await context.close();
  });
}
