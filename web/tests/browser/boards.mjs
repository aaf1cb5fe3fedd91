// Donors, bookstore and tasks in real browsers, on the pages of real nodes; then all of it again without JavaScript.
//
//   node boards.mjs '[{"name":"n1","url":"http://127.0.0.1:8000/","pid":4711}, …]'
//
// Exits with 1 and a reason if anything is not as it should be. With CHORUS_SCREENSHOTS=DIR it also takes the README's
// pictures.

import assert from 'node:assert/strict';
import { expected, live, newTab, newWindow, nodes, openLive, silent, until, withBrowser } from './browser.mjs';

const [first, second, third] = nodes();

await withBrowser(async (browser) => {
  // Two people, each with a browser and a node of their own.
  const people = [await newWindow(browser), await newWindow(browser)];
  await aDonorIsSeenByTheOther(people);
  await donorsAreOrderedByTheirHeads(people[0]);
  await theLastCopyIsSoldOnce(people);
  await aShelfChangesWhereItStands(people[0]);
  await aPurchaseThatNobodyKnowsOfIsAskedForAgain(people[0]);
  await aTaskGoesFromColumnToColumn(people);
  await whatIsWrongIsSaidBesideItsField(people[0]);
  await recordsAndOrdersAreLive(people[0]);
  await whoIsInUseOfAPageKeepsIt(people[0]);
  await pictures(browser);
  const plain = await newWindow(browser, { javaScriptEnabled: false });
  await donorsWithoutJavaScript(plain);
  await booksWithoutJavaScript(plain);
  await tasksWithoutJavaScript(plain);
  await whatIsWrongIsSaidBesideItsField(plain);
  // Last: the tasks are many from now on.
  await aFullColumnGoesOn(people[0]);
});

async function aDonorIsSeenByTheOther([one, other]) {
  const giver = await openLive(one, first, '/donors');
  const watcher = await openLive(other, second, '/donors');
  await give(giver.tab, 'Ada Lovelace', 'ada@example.org', '12.50', 'EUR');
  await row(watcher.tab, 'Ada Lovelace').waitFor();
  assert.equal(await row(watcher.tab, 'Ada Lovelace').locator('[data-label=Amount]').textContent(), '12.50 EUR');
  await until(async () => await watcher.tab.locator('#totals').textContent() === '12.50 EUR by 1', 'the total follows');
  assert.equal(watcher.loads, 1, 'the table that is watched is not loaded again');
  await row(giver.tab, 'Ada Lovelace').waitFor();

  // What is wrong is said beside its field, and what was typed stays.
  const refused = giver.tab.waitForResponse((answer) => answer.request().method() === 'POST');
  await give(giver.tab, 'Bob', 'bob@', '-3', 'EUR');
  assert.equal((await refused).status(), 422);
  await giver.tab.locator('#email-error').waitFor({ state: 'visible' });
  await giver.tab.locator('#amount-error').waitFor({ state: 'visible' });
  assert.equal(await giver.tab.locator('#compose [name=name]').inputValue(), 'Bob');
  await give(giver.tab, 'Bob Noyce', 'bob@example.org', '3', 'EUR');
  await row(watcher.tab, 'Bob Noyce').waitFor();
  expected(giver, '422');
  silent(giver);
  silent(watcher);
  await Promise.all([giver.tab.close(), watcher.tab.close()]);
}

async function donorsAreOrderedByTheirHeads(person) {
  const page = await openLive(person, third, '/donors');
  const head = (title) => page.tab.locator('thead').getByRole('link', { name: title });
  for (const [title, direction, names] of [
    ['Amount', 'ascending', ['Bob Noyce', 'Ada Lovelace']],
    ['Amount', 'descending', ['Ada Lovelace', 'Bob Noyce']],
    ['Name', 'ascending', ['Ada Lovelace', 'Bob Noyce']],
  ]) {
    await head(title).click();
    await page.tab.locator(`thead th[aria-sort=${direction}]`, { hasText: title }).waitFor();
    await until(async () => String(await namesIn(page.tab)) === String(names), `${title}, ${direction}: ${names}`);
  }
  silent(page);
  await page.tab.close();
}

async function theLastCopyIsSoldOnce([one, other]) {
  await ask('POST', '/api/v1/books/seed');
  await ask('PATCH', '/api/v1/books/2', { stock: 1 });
  await knows(second, '/api/v1/books/2', (book) => book.stock === 1);
  const pages = [await openLive(one, first, '/books'), await openLive(other, second, '/books')];
  for (const { tab } of pages) await stock(tab, 2, '1 left');

  // Both want it at the same moment, whatever their pages have heard by then.
  await Promise.all(pages.map(({ tab }) => tab.locator('#b2 form').evaluate((form) => form.requestSubmit())));
  const said = await Promise.all(pages.map(async ({ tab }) => {
    const line = tab.locator('#b2 .said');
    await line.waitFor();
    return line.textContent();
  }));
  assert.deepEqual(said.toSorted(), [
    'Bought: one copy is yours.',
    'Sorry: the last copy was sold a moment ago. Nothing was bought.',
  ]);
  for (const page of pages) {
    await stock(page.tab, 2, 'Sold out');
    assert.ok(await page.tab.locator('#b2 button').isDisabled(), 'there is nothing left to buy');
    assert.equal(page.loads, 1, 'the shelf is not loaded again');
  }
  const { items } = await ask('GET', '/api/v1/orders?book=2');
  assert.equal(items.length, 1, 'one order');

  // A click sells a copy of another, and the other page counts down.
  await pages[0].tab.locator('#b3 button').click();
  await pages[0].tab.locator('#b3 .said.good').waitFor();
  await stock(pages[1].tab, 3, '999 left');
  // The browser itself reports the refusal.
  pages.forEach((page) => expected(page, '409'));
  for (const page of pages) {
    silent(page);
    await page.tab.close();
  }
}

/** Titles come, and go from topic to topic, without the page being loaded again. */
async function aShelfChangesWhereItStands(person) {
  const all = await openLive(person, first, '/books');
  const systems = await openLive(person, second, '/books?topic=DistributedSystems');
  const made = await ask('POST', '/api/v1/books', { title: 'Ropes & <Knots>', topic: 'Sailing', cost_minor: 1_250, stock: 4 });
  const rope = all.tab.locator(`#b${made.id}`);
  await rope.locator('.stock', { hasText: /^4 left$/ }).waitFor();
  assert.equal(await rope.locator('h3').textContent(), 'Ropes & <Knots>');
  assert.equal(await rope.locator('.price').textContent(), '12.50 USD');
  await all.tab.locator('.topics').getByRole('link', { name: 'Sailing' }).waitFor();
  await rope.getByRole('button', { name: 'Buy Ropes & <Knots>' }).click();
  await rope.locator('.said.good').waitFor();
  await rope.locator('.stock', { hasText: /^3 left$/ }).waitFor();

  assert.equal(await systems.tab.locator(`#b${made.id}`).count(), 0, 'it is about something else');
  await ask('PATCH', `/api/v1/books/${made.id}`, { topic: 'DistributedSystems' });
  await systems.tab.locator(`#b${made.id}`).waitFor();
  await rope.locator('.meta', { hasText: 'DistributedSystems' }).waitFor();
  await ask('PATCH', `/api/v1/books/${made.id}`, { topic: 'Sailing' });
  await systems.tab.locator(`#b${made.id}`).waitFor({ state: 'detached' });
  for (const page of [all, systems]) {
    assert.equal(page.loads, 1);
    silent(page);
    await page.tab.close();
  }
}

/** The node dies with its answer: pressed again, the copy is asked for under the same id, and the next one under another. */
async function aPurchaseThatNobodyKnowsOfIsAskedForAgain(person) {
  const page = await openLive(person, first, '/books');
  const keys = [];
  await page.tab.route('**/api/v1/books/6/purchase', async (route) => {
    keys.push(route.request().headers()['idempotency-key']);
    const answer = await route.fetch();
    if (keys.length > 2) return route.fulfill({ response: answer });
    const [status, code] = keys.length === 1 ? [504, 'outcome_unknown'] : [429, 'too_many'];
    return route.fulfill({ status, contentType: 'application/problem+json', body: JSON.stringify({ code, detail: 'nobody knows' }) });
  });
  const { stock: before } = await ask('GET', '/api/v1/books/6');
  const press = async (said) => {
    await page.tab.locator('#b6 button').click();
    await page.tab.locator('#b6 .said', { hasText: said }).waitFor();
    await page.tab.locator('#b6 button:enabled').waitFor();
  };
  await press('Not bought. nobody knows');
  await until(() => keys.length === 1, 'it was asked');
  await press('Not bought. nobody knows');
  await until(() => keys.length === 2, 'it was asked again');
  await press('Bought: one copy is yours.');
  assert.equal(new Set(keys).size, 1, String(keys));
  assert.equal((await ask('GET', '/api/v1/books/6')).stock, before - 1, 'one copy');
  await press('Bought: one copy is yours.');
  await until(() => keys.length === 4, 'another was asked for');
  assert.notEqual(keys[3], keys[2], 'another copy, another id');
  expected(page, '504');
  expected(page, '429');
  silent(page);
  await page.tab.close();
}

async function aTaskGoesFromColumnToColumn([one, other]) {
  const pages = [await openLive(one, first, '/tasks'), await openLive(other, third, '/tasks')];
  const [{ tab: mine }, { tab: theirs }] = pages;
  await addTask(mine, 'Sweep the yard', 'Ada', 'Bob');
  for (const { tab } of pages) await card(tab, 'todo', 'Sweep the yard').waitFor();
  assert.equal(pages[1].loads, 1, 'columns that are watched are not loaded again');

  await card(theirs, 'todo', 'Sweep the yard').getByRole('button', { name: 'Doing' }).click();
  for (const { tab } of pages) await card(tab, 'doing', 'Sweep the yard').waitFor();
  // By keyboard, and on from where the card is then.
  await card(mine, 'doing', 'Sweep the yard').getByRole('link').focus();
  await mine.keyboard.press('Alt+ArrowRight');
  for (const { tab } of pages) await card(tab, 'done', 'Sweep the yard').waitFor();
  await until(() => mine.evaluate(() => document.activeElement?.textContent === 'Sweep the yard'), 'the card keeps the focus');
  await mine.keyboard.press('Alt+ArrowLeft');
  for (const { tab } of pages) await card(tab, 'doing', 'Sweep the yard').waitFor();
  // Dragged.
  await card(theirs, 'doing', 'Sweep the yard').dragTo(theirs.locator('.lane[data-status=todo]'));
  for (const { tab } of pages) await card(tab, 'todo', 'Sweep the yard').waitFor();
  for (const { tab } of pages) {
    assert.equal(await tab.locator('.card', { hasText: 'Sweep the yard' }).count(), 1, 'one card');
  }

  await mine.getByRole('link', { name: 'Sweep the yard' }).click();
  await mine.locator('.history li').first().waitFor();
  assert.equal(await mine.locator('.history li').count(), 5, 'each entry that made it what it is');
  await mine.locator('#delete button').click();
  await mine.waitForURL('**/tasks');
  await card(theirs, 'todo', 'Sweep the yard').waitFor({ state: 'detached' });
  for (const page of pages) {
    silent(page);
    await page.tab.close();
  }
}

/** What has a page of its own is shown as it is now, but for who is writing in it. */
async function recordsAndOrdersAreLive(person) {
  await ask('PATCH', '/api/v1/books/7', { stock: 5 });
  const title = await openLive(person, second, '/books/7');
  const orders = await openLive(person, third, '/orders');
  const ofTitle = await openLive(person, third, '/orders?book=7');
  const other = await openLive(person, third, '/orders?book=6');
  await ask('POST', '/api/v1/books/7/purchase', { quantity: 2 });
  await title.tab.locator('#stock', { hasText: '3 left' }).waitFor();
  await title.tab.locator('#orders li', { hasText: '2 copies' }).first().waitFor();
  for (const { tab } of [orders, ofTitle]) {
    await until(async () => /Spring in the Pioneer Valley/.test(await tab.locator('#rows tr').first().textContent()), 'the order is told');
  }
  assert.equal(other.loads, 1, 'orders of another title stand still');

  await ask('POST', '/api/v1/tasks', { title: 'Seen by two', created_by: 'Ada' });
  const { id } = (await ask('GET', '/api/v1/tasks?limit=500')).items.find((task) => task.title === 'Seen by two');
  await knows(second, `/api/v1/tasks/${id}`, () => true);
  const [reader, writer] = [await openLive(person, first, `/tasks/${id}`), await openLive(person, second, `/tasks/${id}`)];
  await writer.tab.locator('#title').fill('Half a new ti');
  await ask('PATCH', `/api/v1/tasks/${id}`, { assignee: 'Grace' });
  await until(async () => await reader.tab.locator('#assignee').inputValue() === 'Grace', 'the task is shown as it is now');
  await reader.tab.locator('.history li').nth(1).waitFor();
  await writer.tab.locator('#changed').getByRole('link').waitFor();
  assert.equal(await writer.tab.locator('#title').inputValue(), 'Half a new ti', 'who is writing goes on writing');

  const posted = await ask('POST', '/api/v1/quotes', { author: 'Eve', text: 'Regretted soon.' });
  const quote = await openLive(person, first, `/quotes/${posted.id}`);
  await ask('POST', `/api/v1/quotes/${posted.id}/hide`, { by: 'Grace' });
  await quote.tab.getByText('A moderator has hidden this quote.').waitFor();
  expected(quote, '404');
  for (const page of [title, orders, ofTitle, other, reader, writer, quote]) {
    silent(page);
    await page.tab.close();
  }
}

/** What somebody typed, chose, reads or was told is not taken away by what others do. */
async function whoIsInUseOfAPageKeepsIt(person) {
  await ask('POST', '/api/v1/tasks', { title: 'Fought over', created_by: 'Ada' });
  const { id } = (await ask('GET', '/api/v1/tasks?limit=500')).items.find((task) => task.title === 'Fought over');
  const changed = ({ tab }) => tab.locator('#changed').getByRole('link').waitFor();

  const chooser = await openLive(person, first, `/tasks/${id}`);
  await chooser.tab.locator('#status').selectOption('done');
  await chooser.tab.evaluate(() => document.activeElement?.blur());
  const late = await openLive(person, second, `/tasks/${id}`);
  await ask('PATCH', `/api/v1/tasks/${id}`, { assignee: 'Grace' });
  await changed(chooser);
  assert.equal(await chooser.tab.locator('#status').inputValue(), 'done', 'what was chosen stays');

  // Refused for having been late, and shown again with what was typed: that stands in the fields as it came.
  await until(async () => await late.tab.locator('#assignee').inputValue() === 'Grace', 'it is shown as it is now');
  await live(late);
  await late.tab.evaluate(() => { document.querySelector('[name=version]').value = '1'; });
  await late.tab.locator('#title').fill('Mine');
  await late.tab.getByRole('button', { name: 'Save' }).click();
  await late.tab.locator('#trouble').waitFor();
  await live(late);
  await ask('PATCH', `/api/v1/tasks/${id}`, { assignee: 'Bob' });
  await changed(late);
  assert.equal(await late.tab.locator('#title').inputValue(), 'Mine');
  expected(late, '412');

  const sorry = await openLive(person, first, '/books/4');
  await sorry.tab.locator('[name=quantity]').fill('many');
  await sorry.tab.getByRole('button', { name: 'Buy' }).click();
  await sorry.tab.locator('#quantity-error').waitFor();
  await live(sorry);
  await ask('POST', '/api/v1/books/4/purchase');
  await changed(sorry);
  assert.equal(await sorry.tab.locator('#changed a').evaluate((link) => new URL(link.href).pathname), '/books/4');
  expected(sorry, '422');

  // While the store sells, the list of orders is shown anew once, and then says that there is more; older ones stand still.
  const { next } = await ask('GET', '/api/v1/orders?limit=1');
  const older = await openLive(person, first, `/orders?before=${next}`);
  const orders = await openLive(person, second, '/orders');
  const begun = performance.now();
  await until(async () => {
    await ask('POST', '/api/v1/books/4/purchase');
    return orders.tab.locator('#changed').isVisible().catch(() => false);
  }, 'it says that there is more');
  const often = 2 + Math.floor((performance.now() - begun) / 10_000);
  assert.ok(orders.loads >= 2 && orders.loads <= often, `it was shown anew once: ${orders.loads} loads`);
  assert.equal(older.loads, 1);
  assert.equal(await older.tab.locator('#changed').isHidden(), true);
  for (const page of [chooser, late, sorry, orders, older]) {
    silent(page);
    await page.tab.close();
  }
}

/** More tasks than a column shows: the rest is behind a link, and stays there whatever changes. */
async function aFullColumnGoesOn(person) {
  for (let n = 0; n < 210; n += 1) await ask('POST', '/api/v1/tasks', { title: `One of many, ${n}`, created_by: 'Ada' });
  const page = await openLive(person, first, '/tasks');
  const { tab } = page;
  const lane = tab.locator('.lane[data-status=todo]');
  const count = lane.locator('.count');
  assert.equal(await count.textContent(), '200+');
  const last = await lane.locator('.card').last().getAttribute('data-id');
  await ask('POST', '/api/v1/tasks', { title: 'Far down', created_by: 'Ada' });
  await tab.locator('#news', { hasText: 'Far down: To do' }).waitFor({ state: 'attached' });
  assert.equal(await count.textContent(), '200+');
  assert.equal(await lane.locator('.card').last().getAttribute('data-id'), last);
  await card(tab, 'todo', 'One of many, 0').first().getByRole('button', { name: 'Doing' }).click();
  await card(tab, 'doing', 'One of many, 0').waitFor();
  assert.equal(await count.textContent(), '199+');

  await lane.getByRole('link', { name: 'More of: To do' }).click();
  await tab.waitForURL('**/tasks?status=todo&after=*');
  await live(page);
  await card(tab, 'todo', 'Far down').waitFor();
  assert.equal(await tab.locator('.lane').count(), 1);
  await card(tab, 'todo', 'Far down').getByRole('button', { name: 'Doing' }).click();
  await card(tab, 'todo', 'Far down').waitFor({ state: 'detached' });
  silent(page);
  await page.tab.close();
}

/** On the form of every board, with scripts and without: the words stand at the field, what was typed stays, nothing is stored. */
async function whatIsWrongIsSaidBesideItsField(person) {
  const { items: [task] } = await ask('POST', '/api/v1/tasks', { title: 'Has a title', created_by: 'Ada' }).then(() => ask('GET', '/api/v1/tasks?limit=1'));
  const forms = [
    ['/', '#compose', { text: '', author: 'A'.repeat(81) }, ['text', 'author'], '/api/v1/quotes'],
    ['/', '#compose', { text: 'x'.repeat(2_001), author: '' }, ['text', 'author'], '/api/v1/quotes'],
    ['/donors', '#compose', { name: ' ', email: 'a@', amount: '0', currency: 'eur' }, ['name', 'email', 'amount', 'currency'], '/api/v1/donors'],
    ['/tasks', '#compose', { title: '', created_by: '', assignee: 'A'.repeat(81) }, ['title', 'created_by', 'assignee'], '/api/v1/tasks'],
    [`/tasks/${task.id}`, 'form.wide', { title: '' }, ['title'], `/api/v1/tasks/${task.id}/history`],
    [`/tasks/${task.id}`, 'form.wide', { title: 'Still has', assignee: 'A'.repeat(81) }, ['assignee'], `/api/v1/tasks/${task.id}/history`],
    ['/books/3', '#buy', { quantity: 'many' }, ['quantity'], '/api/v1/orders'],
    ['/books/3', '#buy', { quantity: '0' }, ['quantity'], '/api/v1/orders'],
  ];
  for (const [path, form, typed, wrong, records] of forms) {
    const count = async () => (await ask('GET', records)).items.length;
    const before = await count();
    const page = await newTab(person);
    const { tab } = page;
    await tab.goto(at(first, path));
    for (const [field, text] of Object.entries(typed)) await tab.locator(`${form} [name=${field}]`).fill(text);
    await tab.locator(`${form} button.primary`).click();
    for (const field of wrong) {
      const where = `${path}: ${field}`;
      const said = tab.locator(`#${field}-error`);
      await said.waitFor({ state: 'visible' });
      assert.ok((await said.textContent()).trim().length > 5, `${where} is told what is wrong`);
      const input = tab.locator(`${form} [name=${field}]`);
      assert.equal(await input.getAttribute('aria-invalid'), 'true', where);
      assert.ok((await input.getAttribute('aria-describedby') ?? '').split(' ').includes(`${field}-error`), `${where} names its words`);
      assert.equal(await input.inputValue(), typed[field], `${where} keeps what was typed`);
    }
    assert.equal(await count(), before, `${path}: nothing was stored`);
    await tab.close();
  }
}

async function donorsWithoutJavaScript(plain) {
  const { tab } = await newTab(plain);
  await tab.goto(at(second, '/donors'));
  await give(tab, 'Hedy Lamarr', 'hedy@example.org', '7', 'CHF');
  await row(tab, 'Hedy Lamarr').waitFor();
  assert.equal(new URL(tab.url()).pathname, '/donors', 'the form leads back to the table');
  await tab.reload();
  assert.equal(await row(tab, 'Hedy Lamarr').count(), 1, 'once');
  await give(tab, '', 'hedy', '7', 'CHF');
  await tab.locator('#name-error').waitFor({ state: 'visible' });
  assert.equal(await tab.locator('#compose [name=email]').inputValue(), 'hedy', 'what was typed stays');
  await tab.goto(at(second, '/donors'));
  await tab.locator('thead').getByRole('link', { name: 'Name' }).click();
  const names = await namesIn(tab);
  assert.deepEqual(names, names.toSorted());
  assert.ok(names.length >= 3, String(names));
  await tab.close();
}

async function booksWithoutJavaScript(plain) {
  const { tab } = await newTab(plain);
  await tab.goto(at(third, '/books'));
  await tab.locator('.topics').getByRole('link', { name: 'GraduateSchool' }).click();
  assert.equal(await tab.locator('#shelf li').count(), 4);
  const before = (await ask('GET', '/api/v1/books/4')).stock;
  await tab.locator('#b4 button').click();
  await tab.locator('.good').waitFor();
  assert.equal(new URL(tab.url()).searchParams.get('topic'), 'GraduateSchool', 'back to the topic');
  await knows(first, '/api/v1/books/4', (book) => book.stock === before - 1);

  // Somebody else is quicker.
  await ask('PATCH', '/api/v1/books/5', { stock: 1 });
  await knows(third, '/api/v1/books/5', (book) => book.stock === 1);
  await tab.goto(at(third, '/books'));
  await ask('POST', '/api/v1/books/5/purchase');
  await tab.locator('#b5 button').click();
  const sorry = tab.locator('.trouble');
  await sorry.waitFor();
  assert.match(await sorry.textContent(), /^Sorry: the last copy of .* was sold a moment ago\. Nothing was bought\.$/);
  await stock(tab, 5, 'Sold out');

  await tab.locator('#b6').getByRole('link').click();
  await tab.locator('#buy [name=quantity]').fill('3');
  await tab.locator('#buy button').click();
  await tab.locator('#bought').waitFor();
  assert.match(await tab.locator('#bought').textContent(), /^Bought: 3 copies for 18\.00 USD/);
  await tab.goto(at(third, '/orders'));
  assert.match(await tab.locator('#rows tr').first().textContent(), /Why Theory Classes are so hard/);
  await tab.close();
}

async function tasksWithoutJavaScript(plain) {
  const { tab } = await newTab(plain);
  await tab.goto(at(first, '/tasks'));
  await addTask(tab, 'Water the plants', 'Hedy', '');
  await card(tab, 'todo', 'Water the plants').getByRole('button', { name: 'Doing' }).click();
  await card(tab, 'doing', 'Water the plants').waitFor();
  await tab.getByRole('link', { name: 'Water the plants' }).click();
  await tab.locator('[name=assignee]').fill('Grace');
  await tab.getByRole('button', { name: 'Save' }).click();
  await card(tab, 'doing', 'Water the plants').getByText('Grace').waitFor();

  // Seen, changed by somebody else, and deleted: not unseen.
  await tab.getByRole('link', { name: 'Water the plants' }).click();
  const id = new URL(tab.url()).pathname.split('/').at(-1);
  await ask('PATCH', `/api/v1/tasks/${id}`, { status: 'done' });
  await tab.locator('#delete button').click();
  await tab.locator('#trouble').waitFor();
  assert.match(await tab.locator('#trouble').textContent(), /^Somebody else was quicker\./);
  await tab.locator('#delete button').click();
  await tab.waitForURL('**/tasks');
  assert.equal(await tab.locator('.card', { hasText: 'Water the plants' }).count(), 0);
  await tab.close();
}

/** The README's: pages as somebody finds them who comes by. */
async function pictures(browser) {
  const directory = process.env.CHORUS_SCREENSHOTS;
  if (!directory) return;
  for (const [name, email, amount, currency] of [
    ['Grace Hopper', 'grace@example.org', 4200, 'EUR'],
    ['Barbara Liskov', 'barbara@example.org', 10_000, 'CHF'],
    ['Radia Perlman', 'radia@example.org', 2_500, 'EUR'],
    ['Leslie Lamport', 'leslie@example.org', 12_345, 'CHF'],
  ]) await ask('POST', '/api/v1/donors', { name, email, amount_minor: amount, currency });
  for (const [title, status, created_by, assignee] of [
    ['Sweep the yard', 'todo', 'Ada', 'Bob'],
    ['Label the cables', 'todo', 'Grace', ''],
    ['Move the switch to the other rack', 'doing', 'Radia', 'Leslie'],
    ['Write down what happened on Friday', 'doing', 'Barbara', 'Barbara'],
    ['Replace the disk of n2', 'done', 'Ada', 'Grace'],
  ]) await ask('POST', '/api/v1/tasks', { title, status, created_by, assignee }, [first, second, third][title.length % 3]);
  const window = await newWindow(browser, { viewport: { width: 900, height: 860 } });
  for (const board of ['donors', 'books', 'tasks']) {
    const { tab } = await openLive(window, first, `/${board}`);
    await tab.screenshot({ path: `${directory}/${board}.png`, animations: 'disabled' });
    await tab.close();
  }
  await window.close();
}

function at(node, path) {
  return new URL(path, node.url).href;
}

/** Asks a node's API, as a program does. */
async function ask(method, path, body = undefined, node = first) {
  const answer = await fetch(at(node, path), {
    method,
    headers: { 'Content-Type': 'application/json' },
    body: body && JSON.stringify(body),
    signal: AbortSignal.timeout(10_000),
  });
  assert.ok(answer.ok, `${method} ${path}: ${answer.status}`);
  return answer.json();
}

/** Waits until a node has applied what another one has answered. */
async function knows(node, path, wanted) {
  await until(async () => {
    const answer = await fetch(at(node, path), { signal: AbortSignal.timeout(10_000) });
    return answer.ok && wanted(await answer.json());
  }, `${node.name} knows of ${path}`);
}

async function give(tab, name, email, amount, currency) {
  const form = tab.locator('#compose');
  for (const [field, text] of Object.entries({ name, email, amount, currency })) {
    await form.locator(`[name=${field}]`).fill(text);
  }
  await form.locator('button[type=submit]').click();
}

async function addTask(tab, title, created_by, assignee) {
  const form = tab.locator('#compose');
  for (const [field, text] of Object.entries({ title, created_by, assignee })) {
    await form.locator(`[name=${field}]`).fill(text);
  }
  await form.locator('button[type=submit]').click();
}

function row(tab, name) {
  return tab.locator('#rows tr', { has: tab.locator('th', { hasText: name }) });
}

function namesIn(tab) {
  return tab.locator('#rows th').allTextContents();
}

function card(tab, status, title) {
  return tab.locator(`.lane[data-status=${status}] .card`, { hasText: title });
}

function stock(tab, book, text) {
  return tab.locator(`#b${book} .stock`, { hasText: new RegExp(`^${text}$`) }).waitFor();
}
