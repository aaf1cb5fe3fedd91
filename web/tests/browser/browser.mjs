// A headless browser, and what every script here asks of it.

import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';

const FLAGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
];
/** How long a page may take for anything on a busy machine. */
export const PATIENCE_MS = 15_000;

/** Runs a script with a browser of its own, and closes it whatever happens. */
export async function withBrowser(script, flags = []) {
  const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: [...FLAGS, ...flags] });
  try {
    await script(browser);
  } finally {
    await browser.close();
  }
}

/** The nodes that the script was started with: [{"name","url","pid"}]. */
export function nodes() {
  return JSON.parse(process.argv[2]);
}

/** Does some work with each of them, two at a time: a page takes one core, and waits now and then. */
export async function byTwos(items, work) {
  const left = items.values();
  const goOn = async () => { for (const item of left) await work(item); };
  await Promise.all([goOn(), goOn()]);
}

/** A window of its own, with its own memory. */
export async function newWindow(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 900, height: 760 }, colorScheme: 'light', ...options });
  context.setDefaultTimeout(PATIENCE_MS);
  return context;
}

/**
 * A tab that remembers what it complained of and how often it loaded.
 * @returns {Promise<{tab: import('playwright-core').Page, complaints: string[], loads: number}>}
 */
export async function newTab(context) {
  const tab = await context.newPage();
  const page = { tab, complaints: [], loads: 0 };
  tab.on('console', (line) => ['error', 'warning'].includes(line.type()) && page.complaints.push(line.text()));
  tab.on('pageerror', (error) => page.complaints.push(String(error)));
  tab.on('load', () => { page.loads += 1; });
  return page;
}

/** Opens a page of a node, and waits until it follows the feed. */
export async function openLive(context, node, path = '/') {
  const page = Object.assign(await newTab(context), { node });
  const answer = await page.tab.goto(new URL(path, node.url).href);
  assert.equal(answer.status(), 200);
  const policy = answer.headers()['content-security-policy'] ?? '';
  assert.match(policy, /default-src 'none'/, 'a strict policy');
  assert.doesNotMatch(policy, /unsafe-inline|unsafe-eval/, policy);
  await live(page);
  return page;
}

/** Waits until a page is live. */
export async function live({ tab }) {
  await tab.locator('#state[data-level=live]').waitFor();
}

export async function write({ tab }, author, text) {
  const form = tab.locator('form[action="/quotes"]');
  await form.locator('[name=author]').fill(author);
  await form.locator('[name=text]').fill(text);
  await form.locator('button[type=submit]').first().click();
}

/** Waits until a quote is on the board, not only on its way. */
export async function shows({ tab, node }, text) {
  const found = tab.locator('#quotes').getByText(text, { exact: true });
  await found.first().waitFor({ state: 'visible' }).catch((error) => {
    throw new Error(`${node?.name ?? 'the'} page does not show '${text}': ${error.message}`);
  });
}

/** How often a text stands on a page's board. */
export function times({ tab }, text) {
  return tab.locator('#quotes').getByText(text, { exact: true }).count();
}

/** Waits until `check` holds; its last value otherwise says why not. */
export async function until(check, what, patience_ms = PATIENCE_MS) {
  const end = performance.now() + patience_ms;
  for (;;) {
    const value = await check();
    if (value) return value;
    if (performance.now() > end) throw new Error(`in vain for ${patience_ms} ms: ${what}`);
    await new Promise((resolve) => { setTimeout(resolve, 20); });
  }
}

export function within(promise, what) {
  const late = new Promise((_, reject) => {
    setTimeout(() => reject(new Error(`in vain for ${PATIENCE_MS} ms: ${what}`)), PATIENCE_MS).unref();
  });
  return Promise.race([promise, late]);
}

/** What a page may say of a node that is gone: the browser itself reports each connection that broke or was refused. */
export function forgive(page, node) {
  const { host } = new URL(node.url);
  const gone = ['ERR_CONNECTION_REFUSED', 'ERR_CONNECTION_RESET', 'ERR_EMPTY_RESPONSE', 'ERR_INCOMPLETE_CHUNKED_ENCODING', 'ERR_INTERNET_DISCONNECTED', host];
  const about = (line) => gone.some((word) => line.includes(word));
  page.complaints.splice(0, page.complaints.length, ...page.complaints.filter((line) => !about(line)));
}

/** Takes away what the browser itself said of an answer with this status, which was wanted or may be. */
export function expected(page, status) {
  page.complaints.splice(0, page.complaints.length, ...page.complaints.filter((line) => !line.includes(`status of ${status}`)));
}

/** No error, no warning, nothing blocked. */
export function silent(page) {
  assert.deepEqual(page.complaints, [], `${page.node?.name ?? 'the'} page is silent`);
}
