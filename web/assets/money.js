// @ts-check
/**
 * Amounts as people read them. What the API has is a whole number of the currency's smallest unit. Pure.
 * @module
 */

/** Currencies whose smallest unit is not a hundredth (ISO 4217). @type {Record<string, number>} */
const OTHERS = { BHD: 3, CLP: 0, IQD: 3, ISK: 0, JOD: 3, JPY: 0, KRW: 0, KWD: 3, LYD: 3, OMR: 3, PYG: 0, TND: 3, UGX: 0, VND: 0, XAF: 0, XOF: 0 };

/**
 * `1250` of `EUR` is `12.50`.
 * @param {number} minor
 * @param {string} currency
 * @returns {string}
 */
export function shown(minor, currency) {
  const digits = OTHERS[currency] ?? 2;
  if (digits === 0) return String(minor);
  const text = String(Math.abs(minor)).padStart(digits + 1, "0");
  return `${minor < 0 ? "-" : ""}${text.slice(0, -digits)}.${text.slice(-digits)}`;
}
