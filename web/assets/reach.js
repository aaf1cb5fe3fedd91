// @ts-check
/**
 * Asking nodes, this page's own or another. Where they want tokens, the browser's cookie opens this page's node alone; the
 * page itself shows the others a session that it got in its place.
 * @module
 */

/** Before the session is fetched anew: a page stays open for longer than one is good. */
const AGAIN_MS = 3_600_000;

/** @type {string|null} */
let session = null;

if (document.getElementById("main")?.dataset.guarded) {
  learn();
  setInterval(learn, AGAIN_MS);
}

async function learn() {
  try {
    const answer = await fetch("/api/v1/token", { signal: AbortSignal.timeout(5_000) });
    if (answer.ok) session = (await answer.json()).session;
  } catch {
    // The node is gone: what the page has stays good.
  }
}

/** What this page shows the node at `url`; nothing to its own. @param {string} url @returns {string|undefined} */
export function token(url) {
  return session !== null && new URL(url).origin !== location.origin ? session : undefined;
}

/** Like `fetch`, of the node at `url`. @param {string} url @param {string} path @param {RequestInit} init @returns {Promise<Response>} */
export function ask(url, path, init) {
  const headers = new Headers(init.headers);
  const shown = token(url);
  if (shown) headers.set("Authorization", `Bearer ${shown}`);
  return fetch(new URL(path, url), { ...init, headers });
}
