// A hundred well-known ways to bring a script into a page, posted to every field of every board, and asked for in every
// address: each is a text and nothing else.
//
//   node injection.mjs '[{"name":"n1","url":"http://127.0.0.1:8000/","pid":4711}, …]'

import assert from 'node:assert/strict';
import { live, newTab, newWindow, nodes, until, withBrowser } from './browser.mjs';

const [node] = nodes();

const CALL = 'boom()';
const EVENTS = ['onload', 'onerror', 'onclick', 'onmouseover', 'onfocus autofocus tabindex=1 x', 'ontoggle', 'onpointerenter', 'onanimationstart', 'onbeforeprint', 'onscroll'];
const TAGS = ['img src=x', 'svg', 'body', 'details open', 'video src=x', 'audio src=x', 'iframe', 'input', 'marquee', 'math'];
/** Out of whatever they might stand in: text, attributes of either kind, a comment, a script, a style, a title, a text area. */
const OUT = ['', '">', "'>", '-->', '</script>', '</style>', '</title>', '</textarea>', '</noscript>', ']]>'];
const STRINGS = [
  ...TAGS.map((tag, n) => `<${tag} ${EVENTS[n]}=${CALL}>`),
  ...OUT.map((out) => `${out}<script>${CALL}</script>`),
  ...OUT.map((out) => `${out}<img src=x onerror=${CALL}>`),
  ...OUT.map((out) => `${out}<svg/onload=${CALL}>`),
  ...EVENTS.map((event) => `" ${event}="${CALL}`),
  ...EVENTS.map((event) => `' ${event}='${CALL}`),
  `javascript:${CALL}`, `JaVaScRiPt:${CALL}`, ` javascript:${CALL}//`, `data:text/html,<script>${CALL}</script>`, `vbscript:${CALL}`,
  `<a href="javascript:${CALL}">x</a>`, `<a href="java&#115;cript:${CALL}">x</a>`, `<form action="javascript:${CALL}"><button>x`, `<base href="javascript:${CALL}//">`, `<meta http-equiv="refresh" content="0;url=javascript:${CALL}">`,
  `<ScRiPt>${CALL}</sCrIpT>`, `<scr<script>ipt>${CALL}</scr</script>ipt>`, `<script src="data:,${CALL}"></script>`, `<script/x>${CALL}</script>`, `<<script>${CALL}//<</script>`,
  `&lt;script&gt;${CALL}&lt;/script&gt;`, `&#60;script&#62;${CALL}&#60;/script&#62;`, `%3Cscript%3E${CALL}%3C/script%3E`, `\\u003cscript\\u003e${CALL}\\u003c/script\\u003e`, `+ADw-script+AD4-${CALL}+ADw-/script+AD4-`,
  `{{${CALL}}}`, `{% ${CALL} %}`, `\${${CALL}}`, `#{${CALL}}`, `<%= ${CALL} %>`,
  `{{constructor.constructor('${CALL}')()}}`, `"-${CALL}-"`, `'-${CALL}-'`, `\`-${CALL}-\``, `";${CALL};//`,
  `';${CALL};//`, `\\";${CALL};//`, `</script><script>${CALL}//`, `<iframe srcdoc="<script>parent.${CALL}</script>">`, `<object data="javascript:${CALL}">`,
  `<embed src="javascript:${CALL}">`, `<svg><script>${CALL}</script></svg>`, `<svg><a xlink:href="javascript:${CALL}"><text>x`, `<math><mtext><style><img src=x onerror=${CALL}>`, `<noscript><p title="</noscript><img src=x onerror=${CALL}>">`,
];

/** Bodies of every board, with the string in each of its texts; where a rule of the field refuses it, the others bear it alone. */
const BOARDS = [
  ['quotes', '/api/v1/quotes', (text) => [{ author: text.slice(0, 80), text }]],
  ['donors', '/api/v1/donors', (text) => [
    { name: text, email: 'a@b.example', amount_minor: 1, currency: 'EUR' },
    { name: 'Ada', email: text, amount_minor: 1, currency: 'EUR' },
    { name: 'Ada', email: `${text}@b.example`, amount_minor: 1, currency: 'EUR' },
    { name: 'Ada', email: 'a@b.example', amount_minor: 1, currency: text },
  ]],
  ['books', '/api/v1/books', (text) => [{ title: text, topic: text, cost_minor: 1, stock: 1 }]],
  ['tasks', '/api/v1/tasks', (text) => [{ title: text, created_by: text.slice(0, 80), assignee: text.slice(0, 80) }]],
];

/** Where a page says again what its address says. */
const REFLECTING = [
  (text) => `/?q=${text}`, (text) => `/books?topic=${text}`, (text) => `/books?bought=${text}`, (text) => `/orders?book=${text}`,
  (text) => `/donors?sort=${text}`, (text) => `/cluster?drill=${text}&node=${text}`, (text) => `/quotes/${text}`, (text) => `/tasks/${text}`, (text) => `/nowhere/${text}`,
];

await withBrowser(async (browser) => {
  assert.equal(new Set(STRINGS).size, STRINGS.length);
  assert.ok(STRINGS.length >= 100, String(STRINGS.length));
  const context = await newWindow(browser, { viewport: { width: 1_200, height: 900 } });
  const page = await newTab(context);
  const hits = [];
  await page.tab.exposeFunction('boom', () => hits.push(page.tab.url()));
  page.tab.on('dialog', (dialog) => (hits.push(`a dialog: ${dialog.message()}`), dialog.dismiss()));
  const taken = {};
  // What comes by the feed is made by scripts, what is there by the node: first the one, then the other.
  for (const [board, api, bodies] of BOARDS) {
    await page.tab.goto(at(board === 'quotes' ? '/' : `/${board}`));
    await live(page);
    taken[board] = await fill(api, bodies);
    await until(() => seen(page.tab, (last) => document.body.textContent.includes(last), STRINGS.at(-1)), `${board} shows the last`);
    await inert(page, board);
    await press(page);
  }
  await storeTakesThemToo();
  for (const path of ['/', '/?q=boom', '/?q=script', '/donors', '/donors?sort=name', '/books', '/tasks', '/orders', '/cluster']) {
    await page.tab.goto(at(path));
    await inert(page, path);
  }
  const text = STRINGS[12];
  for (const board of ['quotes', 'books', 'tasks']) {
    const { items, books } = await (await fetch(at(`/api/v1/${board}?limit=3`))).json();
    for (const row of items ?? books) {
      await page.tab.goto(at(`/${board}/${row.id}`));
      await inert(page, `/${board}/…`);
    }
  }
  // In the address each way out of a place is tried; all strings only where there is time.
  const every = process.env.CHORUS_TEST_LONG ? 1 : 20;
  for (const path of REFLECTING) {
    for (const string of [text, ...STRINGS.filter((_, n) => n % every === 0)]) {
      await page.tab.goto(at(path(encodeURIComponent(string))));
      await inert(page, path(string));
    }
  }
  assert.deepEqual(hits, [], 'nothing of it ran');
  const broken = page.complaints.filter((line) => !/status of (401|404|422)/.test(line));
  assert.deepEqual(broken, [], 'no policy had to stop it either');
  console.log(`measured: ${STRINGS.length} strings, taken by field rules: ${JSON.stringify(taken)}`);
});

/** Posts every string; how many bodies were taken. */
async function fill(api, bodies) {
  let taken = 0;
  for (const string of STRINGS) {
    for (const body of bodies(string)) {
      const answer = await fetch(at(api), { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) });
      assert.ok([201, 422].includes(answer.status), `${string}: ${answer.status}`);
      taken += answer.status === 201 ? 1 : 0;
    }
  }
  assert.ok(taken >= STRINGS.length, `${api} took only ${taken}`);
  return taken;
}

/** Keys and values have no page; what the API says of them is never a page either. */
async function storeTakesThemToo() {
  for (const string of STRINGS) {
    const path = `/api/v1/store/${encodeURIComponent(string)}`;
    const put = await fetch(at(path), { method: 'PUT', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ value: string }) });
    assert.equal(put.status, 201, string);
    const got = await fetch(at(path));
    assert.equal(got.headers.get('content-type'), 'application/json');
    assert.equal(got.headers.get('x-content-type-options'), 'nosniff');
    assert.equal((await got.json()).value, string, 'and stays what it was');
  }
}

/** No script, frame or handler is there but the page's own. */
async function inert({ tab }, where) {
  const foreign = await seen(tab, () => {
    const own = (one) => one.tagName === 'SCRIPT' && /^\/assets\/[0-9a-f]+\/[a-z]+\.js$/.test(one.getAttribute('src') ?? '') && one.textContent === '';
    const acting = [...document.querySelectorAll('script, iframe, object, embed, base, math, marquee, video, audio')].filter((one) => !own(one));
    const handled = [...document.querySelectorAll('*')].filter((one) => [...one.attributes].some(({ name, value }) => name.startsWith('on') || (/^(href|src|action|formaction)$/.test(name) && /^\s*(javascript|data|vbscript):/i.test(value))));
    return [...acting, ...handled].map((one) => one.outerHTML.slice(0, 200));
  });
  assert.deepEqual(foreign, [], where);
}

/** What is seen in a page, also in one that just then loads itself anew: the shelf does for a title that it did not know. */
async function seen(tab, look, argument = undefined) {
  for (let tries = 0; ; tries += 1) {
    try {
      await tab.waitForLoadState('load');
      return await tab.evaluate(look, argument);
    } catch (error) {
      if (tries >= 20 || !/context was destroyed|navigation/i.test(error.message)) throw error;
    }
  }
}

/** Somebody moves over the page and presses keys on it. */
async function press({ tab }) {
  for (let y = 100; y < 900; y += 200) await tab.mouse.move(600, y);
  for (let n = 0; n < 10; n += 1) await tab.keyboard.press('Tab');
}

function at(path) {
  return new URL(path, node.url).href;
}
