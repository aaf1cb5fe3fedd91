// @ts-check
/**
 * Small things that every page needs.
 * @module
 */

import { visible } from "./words.js";

/**
 * Texts that it is made of show what they hold.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {object} properties
 * @param {...(Node|string)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children.map((child) => (typeof child === "string" ? visible(child) : child)));
  return made;
}

/** Changes a text only if it is another: a live region would say it again. @param {Element|null} place @param {string} text */
export function say(place, text) {
  const shown = visible(text);
  if (place && place.textContent !== shown) place.textContent = shown;
}

/** @param {string} key @returns {string|null} */
export function kept(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

/** @param {string} key @param {string} value */
export function keep(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // A browser that keeps nothing: it lives as long as the page.
  }
}

/** @param {string} key */
export function forget(key) {
  try {
    localStorage.removeItem(key);
  } catch {
    // Nothing was kept.
  }
}

/** All that is kept under names that begin so. @param {string} prefix @returns {(string|null)[]} */
export function keptUnder(prefix) {
  try {
    return Object.keys(localStorage).filter((key) => key.startsWith(prefix)).map((key) => localStorage.getItem(key));
  } catch {
    return [];
  }
}
