// @ts-check
/**
 * Shortcuts on every page, and the list of them. Whoever speaks to the page, or types by accident, turns them off there.
 * @module
 */

import { element, keep, kept } from "./dom.js";
import * as shortcuts from "./shortcuts.js";

const OFF_KEY = "chorus.shortcuts.off";

/** @type {shortcuts.Begun|null} */
let begun = null;
/** @type {HTMLDialogElement|null} */
let dialog = null;

addEventListener("keydown", pressed);
const button = element("button", { type: "button", className: "quiet" }, "Keyboard shortcuts");
button.addEventListener("click", show);
document.getElementById("shortcuts")?.replaceChildren(button);

/** @param {KeyboardEvent} stroke */
function pressed(stroke) {
  const off = kept(OFF_KEY) === "true";
  const typing = stroke.target instanceof Element && stroke.target.closest("input, textarea, select, [contenteditable], dialog") !== null;
  const chord = stroke.ctrlKey || stroke.altKey || stroke.metaKey;
  if (off || stroke.defaultPrevented) return;
  const [next, act] = shortcuts.read(begun, { key: stroke.key, chord, typing, at_ms: stroke.timeStamp });
  begun = next;
  if (act === null) return;
  stroke.preventDefault();
  carryOut(act);
}

/** @param {shortcuts.Act} act */
function carryOut(act) {
  if ("show" in act) show();
  else if ("go" in act) location.assign(act.go);
  else if ("click" in act) there(act.click)?.click();
  else field(act.focus)?.focus();
}

/** What is on this page and can be seen. @param {string} id */
function there(id) {
  const found = document.getElementById(id);
  return found && !found.hidden ? found : null;
}

/** A field, or the first one of a form. @param {string} id @returns {HTMLElement|null} */
function field(id) {
  const found = there(id);
  if (!(found instanceof HTMLFormElement)) return found;
  return /** @type {HTMLElement|null} */ (found.querySelector("textarea, input:not([type=hidden])"));
}

function show() {
  dialog ??= document.body.appendChild(list());
  if (!dialog.open) dialog.showModal();
}

/** Only what this page has is listed. @returns {HTMLDialogElement} */
function list() {
  const here = shortcuts.SHORTCUTS.filter(({ act }) => "show" in act || "go" in act || document.getElementById("click" in act ? act.click : act.focus) !== null);
  const rows = here.flatMap(({ keys, what }) => [element("dt", {}, ...keys.split(" ").map((key) => element("kbd", {}, key))), element("dd", {}, what)]);
  const choice = element("input", { type: "checkbox", id: "shortcuts-on", checked: kept(OFF_KEY) !== "true" });
  choice.addEventListener("change", () => keep(OFF_KEY, String(!choice.checked)));
  const label = element("label", { htmlFor: "shortcuts-on", className: "choice" }, choice, "Single keys are shortcuts");
  const close = element("form", { method: "dialog", className: "bare" }, element("button", { type: "submit" }, "Close"));
  const made = element("dialog", { className: "keys" }, element("h2", { id: "keys-title" }, "Keyboard shortcuts"), element("dl", {}, ...rows), label, close);
  made.setAttribute("aria-labelledby", "keys-title");
  return made;
}
