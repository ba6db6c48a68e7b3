// What a network's images are called, so that sentences fit digits, letters, clothes and photos alike.

/** @import { Config } from "./net/config.js" */
/**
 * thing: one image. digits: its classes are 0 to 9, drawn. draws: it reads drawings, so it normalises them.
 * @typedef {{ thing: "digit" | "drawing" | "picture", digits: boolean, draws: boolean }} Words
 */

/**
 * Before a network is there, the words for digits.
 * @param {Config | null} config
 * @returns {Words}
 */
export function words(config) {
  const draws = config?.drawing !== null;
  const digits = draws && (config?.classes ?? []).every((name) => /^[0-9]$/.test(name));
  if (digits) return { thing: "digit", digits, draws };
  return { thing: draws ? "drawing" : "picture", digits, draws };
}

/**
 * What a network's input is cut into.
 * @param {{ views: { tokens: boolean } } | null} network
 */
export const cell = (network) => (network?.views.tokens === false ? "square" : "patch");

/**
 * The same text, but no line ends inside "91 %", "4 × 4" or "patch 24".
 * @param {string} text
 */
export const tied = (text) =>
  text
    .replace(/(\d) %/g, "$1\u00a0%")
    .replace(/ × /g, "\u00a0×\u00a0")
    .replace(/\b(an?|patch|block|head) (?=\d)/gi, "$1\u00a0");

/** @param {string} text */
export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
