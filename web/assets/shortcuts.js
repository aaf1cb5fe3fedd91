// @ts-check
/**
 * What a key means. Pure: the page's keys, and how a reader's strokes become an act.
 * @module
 */

/**
 * @typedef {{go: string} | {focus: string} | {click: string} | {show: true}} Act
 *   where to go, what to focus, what to press (by id), or the list of shortcuts
 * @typedef {{keys: string, what: string, act: Act}} Shortcut `keys`: strokes in order, separated by a blank
 */

/** @type {readonly Shortcut[]} */
export const SHORTCUTS = [
  { keys: "?", what: "Show these shortcuts", act: { show: true } },
  { keys: "n", what: "Write something new", act: { focus: "compose" } },
  { keys: "/", what: "Search", act: { focus: "q" } },
  { keys: ".", what: "Show what is new", act: { click: "fresh" } },
  { keys: "p", what: "Stop or go on with the picture", act: { click: "pause" } },
  { keys: "g q", what: "Go to the quotes", act: { go: "/" } },
  { keys: "g d", what: "Go to the donors", act: { go: "/donors" } },
  { keys: "g b", what: "Go to the books", act: { go: "/books" } },
  { keys: "g t", what: "Go to the tasks", act: { go: "/tasks" } },
  { keys: "g c", what: "Go to the cluster", act: { go: "/cluster" } },
];

/** The second stroke of two may come so late. */
const STROKES_MS = 1_500;

/**
 * @typedef {object} Stroke
 * @property {string} key as the browser names it
 * @property {boolean} chord with Ctrl, Alt or Meta: the browser's, or the page's own
 * @property {boolean} typing something is being written
 * @property {number} at_ms
 * @typedef {{first: string, at_ms: number}} Begun a stroke that may be the first of two
 */

/**
 * @param {Begun|null} begun
 * @param {Stroke} stroke
 * @returns {[Begun|null, Act|null]} what to remember, and what to do
 */
export function read(begun, stroke) {
  if (stroke.chord || stroke.typing || stroke.key.length !== 1) return [null, null];
  const key = stroke.key.toLowerCase();
  if (begun !== null && stroke.at_ms - begun.at_ms <= STROKES_MS) {
    const both = SHORTCUTS.find(({ keys }) => keys === `${begun.first} ${key}`);
    if (both) return [null, both.act];
  }
  const alone = SHORTCUTS.find(({ keys }) => keys === key);
  if (alone) return [null, alone.act];
  const first = SHORTCUTS.some(({ keys }) => keys.startsWith(`${key} `));
  return [first ? { first: key, at_ms: stroke.at_ms } : null, null];
}
