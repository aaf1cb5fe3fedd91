// What a page goes through: reloads, back and forward, tabs, a freeze, a lost network, a slow node, another epoch.
//
//   node feed.mjs '[{"name":"n1","url":"http://127.0.0.1:8000/","pid":4711}, …]'
//
// Stops the node behind a page for a while, and lets it go on.

import assert from 'node:assert/strict';
import { forgive, live, newTab, newWindow, nodes, openLive, shows, silent, times, until, withBrowser, write } from './browser.mjs';

const [first, second, third] = nodes();

await withBrowser(async (browser) => {
  await step(browser, reloads);
  await step(browser, backAndForward);
  await step(browser, twoTabs);
  await step(browser, aFrozenPage);
  await step(browser, offlineAndOnline);
  await step(browser, theScrollIsNotStolen);
  await step(browser, aFailedPostIsTakenBack);
  await step(browser, aWrongClockPostsAllTheSame);
  await step(browser, anotherEpoch);
  await step(browser, aSlowNode);
  await step(browser, slowScripts);
  await step(browser, noMajority);
});

/** Each story has a window of its own. */
async function step(browser, story) {
  const context = await newWindow(browser);
  const begun = performance.now();
  try {
    await story(context);
  } catch (error) {
    throw new Error(`${story.name}: ${error.message}`, { cause: error });
  } finally {
    await context.close();
  }
  console.log(`${story.name}: ${Math.round(performance.now() - begun)} ms`);
}

/** Somebody else writes, on another node. */
async function elsewhere(context, text) {
  const answer = await context.request.post(new URL('/api/v1/quotes', second.url).href, { data: { author: 'Grace', text } });
  assert.equal(answer.status(), 201);
}

async function reloads(context) {
  const page = await openLive(context, first);
  await write(page, 'Ada', 'Before the reload.');
  // At once: the post may still be on its way.
  await page.tab.reload();
  await shows(page, 'Before the reload.');
  await live(page);
  await until(async () => await page.tab.locator('#outbox > li').count() === 0, 'nothing is on its way any more');
  assert.equal(await times(page, 'Before the reload.'), 1);
  assert.equal(await page.tab.locator('[name=author]').inputValue(), 'Ada', 'the author is remembered');
  silent(page);
}

async function backAndForward(context) {
  const page = await openLive(context, first);
  await page.tab.getByRole('link', { name: 'Donors', exact: true }).click();
  await page.tab.waitForURL('**/donors');
  await elsewhere(context, 'Written while the page was not there.');
  await page.tab.goBack();
  await live(page);
  await shows(page, 'Written while the page was not there.');
  assert.equal(await times(page, 'Written while the page was not there.'), 1);
  await page.tab.goForward();
  await live(page);
  await page.tab.goBack();
  await live(page);
  await elsewhere(context, 'Written after it came back.');
  await shows(page, 'Written after it came back.');
  silent(page);
}

async function twoTabs(context) {
  const posts = [];
  let [sockets, refusals] = [0, 0];
  context.on('page', (tab) => tab.on('websocket', (socket) => {
    sockets += 1;
    socket.on('framesent', ({ payload }) => {
      if (String(payload).includes('"t":"post"')) posts.push(JSON.parse(String(payload)).id);
    });
    socket.on('framereceived', ({ payload }) => { refusals += String(payload).includes('"t":"nack"') ? 1 : 0; });
  }));
  const pages = [await openLive(context, first), await openLive(context, first)];
  const opened = sockets;
  await write(pages[0], 'Ada', 'From the first of two tabs.');
  await write(pages[1], 'Ada', 'From the second of two tabs.');
  for (const page of pages) {
    for (const text of ['From the first of two tabs.', 'From the second of two tabs.']) {
      await shows(page, text);
      assert.equal(await times(page, text), 1);
    }
    await until(async () => await page.tab.locator('#outbox > li').count() === 0, 'nothing is on its way any more');
    silent(page);
  }
  assert.equal(new Set(posts).size, 2);
  // Where nobody led, or the line broke, it was right to send it again.
  if (sockets === opened && refusals === 0) assert.equal(posts.length, 2, 'each was sent once');
}

async function aFrozenPage(context) {
  const page = await openLive(context, first);
  const browser = await context.newCDPSession(page.tab);
  await browser.send('Page.setWebLifecycleState', { state: 'frozen' });
  for (let n = 0; n < 5; n += 1) await elsewhere(context, `While the page was frozen, ${n}.`);
  await browser.send('Page.setWebLifecycleState', { state: 'active' });
  for (let n = 0; n < 5; n += 1) {
    await shows(page, `While the page was frozen, ${n}.`);
    assert.equal(await times(page, `While the page was frozen, ${n}.`), 1);
  }
  silent(page);
}

/** The page's way to every node breaks, as when a cable is pulled: the browser says that it is offline, and nothing gets through. */
async function offlineAndOnline(context) {
  const page = await newTab(context);
  const sockets = [];
  let cut = false;
  await page.tab.routeWebSocket(/\/ws$/, (socket) => {
    if (cut) return void socket.close({ code: 1001 });
    sockets.push(socket);
    socket.connectToServer();
  });
  await page.tab.goto(first.url);
  await live(page);
  cut = true;
  await context.setOffline(true);
  for (const socket of sockets) await socket.close({ code: 1001 });
  await page.tab.locator('#state[data-level=offline]').waitFor();
  assert.match(await page.tab.locator('#state-words').textContent(), /^As of .*\d+:\d\d:\d\d.*, offline$/, 'how old it is');
  assert.ok(await page.tab.locator('#quotes > li').count() > 0, 'nothing that was shown goes');
  await write(page, 'Ada', 'Written offline.');
  await page.tab.locator('#outbox .pending').getByText('Written offline.', { exact: true }).waitFor();
  cut = false;
  await context.setOffline(false);
  await page.tab.getByRole('button', { name: 'Retry now' }).click({ timeout: 2_000 }).catch(() => {});
  await live(page);
  await shows(page, 'Written offline.');
  assert.equal(await times(page, 'Written offline.'), 1);
  assert.equal(await page.tab.locator('#outbox > li').count(), 0);
  forgive(page, first);
}

async function theScrollIsNotStolen(context) {
  for (let n = 0; n < 60; n += 1) await elsewhere(context, `Something to scroll over, ${n}.`);
  const page = await openLive(context, first);
  // Its node may have heard of the last ones a moment later.
  await shows(page, 'Something to scroll over, 59.');
  await page.tab.evaluate(() => window.scrollTo(0, 900));
  const reading = () => page.tab.evaluate(() => ({ y: window.scrollY, first: document.querySelector('#quotes > li')?.id }));
  const before = await reading();
  for (let n = 0; n < 4; n += 1) await elsewhere(context, `Something new, ${n}.`);
  await page.tab.getByRole('button', { name: '4 new' }).waitFor();
  assert.deepEqual(await reading(), before, 'what is being read stays where it is');
  await page.tab.getByRole('button', { name: '4 new' }).click();
  for (let n = 0; n < 4; n += 1) await shows(page, `Something new, ${n}.`);
  const older = page.tab.getByRole('link', { name: 'Older quotes' });
  assert.match(await older.getAttribute('href'), /^\/\?before=\d+$/, 'older ones are behind a link');
  silent(page);
}

async function aFailedPostIsTakenBack(context) {
  const page = await newTab(context);
  let refusals = 2;
  await page.tab.routeWebSocket(/\/ws$/, (socket) => {
    const server = socket.connectToServer();
    socket.onMessage((text) => {
      const frame = JSON.parse(String(text));
      if (frame.t !== 'post' || refusals === 0) return server.send(text);
      refusals -= 1;
      return socket.send(JSON.stringify({ t: 'nack', id: frame.id, code: 'disk_reserve', detail: 'the disk is nearly full', retry_ms: null }));
    });
  });
  await page.tab.goto(first.url);
  await live(page);
  await write(page, 'Ada', 'Refused at first.');
  const failed = page.tab.locator('#outbox .failed');
  await failed.getByText('Not stored. the disk is nearly full').waitFor();
  const news = page.tab.locator('#news', { hasText: /^Not stored: “Refused at first.”. the disk is nearly full$/ });
  await news.waitFor({ state: 'attached' });
  // Whoever is on a button stays there whatever becomes of other posts.
  await failed.getByRole('button', { name: 'Retry' }).focus();
  await page.tab.evaluate(() => {
    const form = document.querySelector('#compose');
    form.querySelector('[name=text]').value = 'Refused as well.';
    form.querySelector('[name=text]').focus = () => {};
    form.requestSubmit();
  });
  await until(async () => await failed.count() === 2, 'another was refused');
  assert.equal(await page.tab.evaluate(() => document.activeElement?.textContent), 'Retry');
  assert.equal(await page.tab.evaluate(() => document.activeElement?.closest('li')?.querySelector('blockquote')?.textContent), 'Refused at first.');
  await failed.first().getByRole('button', { name: 'Retry' }).click();
  await shows(page, 'Refused as well.');
  await failed.getByRole('button', { name: 'Edit' }).click();
  assert.equal(await page.tab.locator('#text').inputValue(), 'Refused at first.');
  await page.tab.locator('#text').fill('Taken in the end.');
  await page.tab.getByRole('button', { name: 'Post', exact: true }).click();
  await shows(page, 'Taken in the end.');
  assert.equal(await times(page, 'Refused at first.'), 0);
  silent(page);
}

/** The browser's clock is a day and more behind, or hours ahead: what is posted counts as posted now. */
async function aWrongClockPostsAllTheSame(context) {
  for (const wrong_ms of [-30 * 3_600_000, 5 * 3_600_000]) {
    const page = await newTab(context);
    await page.tab.addInitScript((by_ms) => {
      const [now, origin] = [Date.now, performance.timeOrigin];
      Date.now = () => now() + by_ms;
      Object.defineProperty(performance, 'timeOrigin', { get: () => origin + by_ms });
    }, wrong_ms);
    await page.tab.goto(first.url);
    await live(page);
    const text = `By a clock that is ${wrong_ms} ms wrong.`;
    await write(page, 'Ada', text);
    await shows(page, text);
    silent(page);
  }
}

/** The cluster was restored: its indexes mean something else now, and everything must be read anew. */
async function anotherEpoch(context) {
  const page = await newTab(context);
  const resumed = [];
  let restored = false;
  await page.tab.routeWebSocket(/\/ws$/, (socket) => {
    const server = socket.connectToServer();
    server.onMessage((text) => {
      const frame = JSON.parse(String(text));
      socket.send(restored && frame.t === 'hello' ? JSON.stringify({ ...frame, epoch: 'restored.2' }) : text);
    });
    socket.onMessage((text) => {
      const frame = JSON.parse(String(text));
      if (frame.t === 'resume') resumed.push(frame.epoch);
      const other = restored && frame.t === 'resume' && frame.epoch !== null && frame.epoch !== 'restored.2';
      if (other) socket.send(JSON.stringify({ t: 'reset', reason: 'epoch', seq: 0 }));
      else server.send(frame.t === 'resume' ? JSON.stringify({ ...frame, epoch: null }) : text);
    });
    if (!restored) page.cut = () => socket.close({ code: 1001 });
  });
  await page.tab.goto(first.url);
  await live(page);
  const shown = await page.tab.locator('#quotes > li').count();
  restored = true;
  await page.cut();
  await until(() => resumed.length >= 3, 'the page read everything anew and resumed after it');
  await live(page);
  assert.equal(resumed.at(-1), 'restored.2', 'it knows of which life it is now');
  assert.ok(await page.tab.locator('#quotes > li').count() >= Math.min(shown, 50), 'the board is there');
  await elsewhere(context, 'After the restore.');
  await shows(page, 'After the restore.');
  assert.equal(await times(page, 'After the restore.'), 1);
  assert.equal(page.loads, 1);
  silent(page);
}

async function aSlowNode(context) {
  const page = await openLive(context, third);
  await page.tab.evaluate(() => {
    window.said = [];
    const words = document.getElementById('state-words');
    new MutationObserver(() => window.said.push(words.textContent)).observe(words, { childList: true, characterData: true, subtree: true });
  });
  process.kill(third.pid, 'SIGSTOP');
  try {
    await write(page, 'Ada', 'To a node that stands still.');
    await page.tab.locator('#outbox .pending').getByText('To a node that stands still.', { exact: true }).waitFor();
    await shows(page, 'To a node that stands still.');
    const said = await page.tab.evaluate(() => window.said);
    assert.ok(said.some((words) => /^As of .*\d+:\d\d:\d\d.*, reconnecting$/.test(words)), `it said how old it was: ${said}`);
    assert.equal(await times(page, 'To a node that stands still.'), 1);
  } finally {
    process.kill(third.pid, 'SIGCONT');
  }
  const other = await openLive(await context.browser().newContext(), second);
  await shows(other, 'To a node that stands still.');
  assert.equal(await times(other, 'To a node that stands still.'), 1);
  await other.tab.context().close();
  forgive(page, third);
  silent(page);
}

/** Two of three nodes stand still: the third knows that it is alone, shows what it has, and what is posted waits. */
async function noMajority(context) {
  const page = await openLive(context, first);
  const shown = await page.tab.locator('#quotes > li').count();
  assert.ok(shown > 0);
  for (const { pid } of [second, third]) process.kill(pid, 'SIGSTOP');
  try {
    await page.tab.locator('#state[data-level=readonly]').waitFor();
    assert.match(await page.tab.locator('#state-words').textContent(), /^Connected to n\d, read-only: no leader, no majority$/);
    const mark = await page.tab.locator('#state .mark').boundingBox();
    assert.ok(mark && mark.width > 0 && mark.height > 0, 'an icon says it too');
    assert.equal(await page.tab.locator('#quotes > li').count(), shown, 'nothing that was shown goes');
    await write(page, 'Ada', 'To nobody in particular.');
    await page.tab.locator('#outbox .pending').getByText('To nobody in particular.', { exact: true }).waitFor();
    for (const path of ['/donors', '/books', '/tasks', '/cluster']) {
      const other = await newTab(context);
      const answer = await other.tab.goto(new URL(path, first.url).href);
      assert.equal(answer.status(), 200, path);
      await other.tab.locator('#state[data-level=readonly]').waitFor();
      await other.tab.close();
    }
  } finally {
    for (const { pid } of [second, third]) process.kill(pid, 'SIGCONT');
  }
  await live(page);
  await shows(page, 'To nobody in particular.');
  await until(async () => await page.tab.locator('#outbox > li').count() === 0, 'nothing is on its way any more');
  assert.equal(await times(page, 'To nobody in particular.'), 1);
  silent(page);
}

/** The page works before its scripts have come. */
async function slowScripts(context) {
  const page = await newTab(context);
  await page.tab.route('**/*.js', async (route) => {
    await new Promise((resolve) => { setTimeout(resolve, 2_000); });
    await route.continue().catch(() => {});
  });
  await page.tab.goto(first.url, { waitUntil: 'commit' });
  await write(page, 'Ada', 'Before any script came.');
  await shows(page, 'Before any script came.');
  await live(page);
  assert.equal(await times(page, 'Before any script came.'), 1);
  silent(page);
}
