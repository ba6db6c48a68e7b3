// The sums that the story shows: how a query matches a key, what is taken of the values, how scores become shares.

import { argmax } from "../net/numbers.js";

/** @import { OpenedAttention } from "../net/token.js" */
/**
 * One query with one key. products [d]: number by number; sum: of them; bias: what is added for the pair, null if nothing
 * is; score: sum / √d + bias; power: exp(score); total: of the powers of all tokens; share: power / total.
 * @typedef {{ token: number, key: Float32Array, products: Float32Array, sum: number, bias: number | null, score: number,
 *   power: number, total: number, share: number }} Match
 */

const NEAR = 1e-3;

/**
 * How the opened token matches another one, both counted from 0 with the class token; null where its shares do not come
 * from its scores, because something is switched off.
 * @param {OpenedAttention} attention @param {number} token
 * @returns {Match | null}
 */
export function matchOf({ q, keys, bias, scores, weights }, token) {
  const width = q.length;
  const key = keys.slice(token * width, (token + 1) * width);
  const products = q.map((value, i) => value * key[i]);
  const { power, total, share } = shareOf(scores, token);
  if (Math.abs(share - weights[token]) > NEAR || !Number.isFinite(total)) return null;
  const sum = products.reduce((all, value) => all + value, 0);
  return { token, key, products, sum, bias: bias?.[token] ?? null, score: scores[token], power, total, share };
}

/**
 * Softmax for one of several scores.
 * @param {Float32Array} scores @param {number} index
 */
export function shareOf(scores, index) {
  const power = Math.exp(scores[index]);
  const total = scores.reduce((all, score) => all + Math.exp(score), 0);
  return { power, total, share: power / total };
}

/**
 * The tokens of patches that it takes most and least from; `first` tokens belong to no patch.
 * @param {OpenedAttention} attention @param {number} first
 */
export function ends({ weights }, first) {
  const shares = weights.subarray(first);
  return [argmax(shares), argmax(shares.map((share) => -share))].map((patch) => first + patch);
}

/**
 * What is taken of one token's value, [d].
 * @param {OpenedAttention} attention @param {number} token
 */
export function partOf({ values, weights, v }, token) {
  return values.slice(token * v.length, (token + 1) * v.length).map((value) => value * weights[token]);
}

const SMALL = "⁰¹²³⁴⁵⁶⁷⁸⁹";

/**
 * A number above 0 of any size: 9.12, 1,234, "3.1 × 10⁻⁵".
 * @param {number} value
 */
export function amount(value) {
  if (value >= 1e6 || (value > 0 && value < 0.0095)) {
    const [digits, power] = value.toExponential(1).split("e");
    const exponent = power
      .replace("+", "")
      .replace("-", "⁻")
      .replace(/\d/g, (digit) => SMALL[Number(digit)]);
    return `${digits} × 10${exponent}`;
  }
  return value < 99.95 ? value.toFixed(2) : Math.round(value).toLocaleString("en");
}
