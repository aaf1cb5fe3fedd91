// Something to see on every page.

import assert from 'node:assert/strict';
import { live, newTab, newWindow, shows, write } from './browser.mjs';

/** Something on every board; the paths of all pages. */
export async function fill(browser, node) {
  const context = await newWindow(browser);
  const page = await newTab(context);
  await page.tab.goto(node.url);
  await live(page);
  await write(page, 'Ada', 'Machines come and go; what was said stays.');
  await shows(page, 'Machines come and go; what was said stays.');
  const quote = await page.tab.locator('#quotes .meta a').first().getAttribute('href');
  const api = async (path, data) => {
    const answer = await context.request.post(new URL(path, node.url).href, { data });
    assert.ok(answer.ok(), `${path}: ${answer.status()} ${await answer.text()}`);
    return answer.json();
  };
  await api('/api/v1/donors', { name: 'Grace', email: 'grace@department.of.long.addresses.example', amount_minor: 990_000, currency: 'EUR' });
  await api('/api/v1/books/seed', {});
  await api('/api/v1/books/3/purchase', {});
  await api('/api/v1/tasks', { title: 'Read the thesis', created_by: 'Ada' });
  await page.tab.goto(new URL('/tasks', node.url).href);
  const task = await page.tab.locator('.card a').first().getAttribute('href');
  await context.close();
  return ['/', '/?q=come', quote, '/donors', '/books', '/books/3', '/orders', '/tasks', task, '/cluster', '/token', '/nowhere'];
}
