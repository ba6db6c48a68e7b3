// The colour scales of the maps. They are those of the report's pictures, and a test compares them: one quantity has
// one colour everywhere.

/** @typedef {[number, number, number]} Colour  red, green, blue in 0..255 */
/** @typedef {[number, string]} Stop  a place from 0 to 1, and its colour */

// Attention: white is an even share, blue less, orange and red more.
/** @type {Stop[]} */
const LOOKED = [
  [0, "#b9cfe4"],
  [0.5, "#ffffff"],
  [0.66, "#fdc171"],
  [0.83, "#ea5a33"],
  [1, "#8f0a0a"],
];

// Change of a probability when something is removed: blue where it rises, red where it falls. matplotlib's RdBu_r
// (ColorBrewer), whose colours are evenly spaced.
const NEEDED = [
  "#053061",
  "#2166ac",
  "#4393c3",
  "#92c5de",
  "#d1e5f0",
  "#f7f7f7",
  "#fddbc7",
  "#f4a582",
  "#d6604d",
  "#b2182b",
  "#67001f",
];

// Any other number, by its sign: violet below 0, green above. ColorBrewer's PRGn, which nothing else here uses.
const SIGNED = [
  "#40004b",
  "#762a83",
  "#9970ab",
  "#c2a5cf",
  "#e7d4e8",
  "#f7f7f7",
  "#d9f0d3",
  "#a6dba0",
  "#5aae61",
  "#1b7837",
  "#00441b",
];

export const EVEN_SHARES = 8; // where the attention scale ends
export const BELOW = SIGNED[2]; // for bars, which have no scale
export const ABOVE = SIGNED[8];
export const ATTENTION_LINE = LOOKED[3][1]; // for lines, which have no scale: much attention

const looked = LOOKED.map(([place, hex]) => ({ place, colour: fromHex(hex) }));
const needed = evenly(NEEDED);
const signed = evenly(SIGNED);

/** @param {string[]} hexes */
function evenly(hexes) {
  return hexes.map((hex, i) => ({ place: i / (hexes.length - 1), colour: fromHex(hex) }));
}

/**
 * @param {string} hex
 * @returns {Colour}
 */
function fromHex(hex) {
  const value = Number.parseInt(hex.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

/**
 * The colour at a place, between the two stops around it.
 * @param {{ place: number, colour: Colour }[]} stops @param {number} place
 * @returns {Colour}
 */
function between(stops, place) {
  const next = Math.max(
    1,
    stops.findIndex((stop) => stop.place >= place),
  );
  const [from, to] = [stops[next - 1], stops[next]];
  const t = (place - from.place) / (to.place - from.place);
  /** @param {number} c */
  const mix = (c) => Math.round(from.colour[c] + t * (to.colour[c] - from.colour[c]));
  return [mix(0), mix(1), mix(2)];
}

/** @param {number} value */
const inUnit = (value) => Math.min(1, Math.max(0, value));

/**
 * The colour of a weight among `patches`, in multiples of an even share: from 0 to 1 in proportion, from 1 to 8 by the
 * logarithm, so 2 is orange and 4 is red. The scale is the same for every map.
 * @param {number} weight @param {number} patches
 */
export function attentionColour(weight, patches) {
  const share = weight * patches;
  const above = share <= 1 ? share - 1 : Math.log(share) / Math.log(EVEN_SHARES);
  return between(looked, inUnit(0.5 + 0.5 * above));
}

/**
 * The colour of a fall of probability, -1 to 1, by its signed root: small changes show. The scale is always the same.
 * @param {number} fall
 */
export function fallColour(fall) {
  return between(needed, inUnit(0.5 + 0.5 * Math.sign(fall) * Math.sqrt(Math.abs(fall))));
}

/**
 * The colour of a number among numbers of which `largest` has the largest absolute value.
 * @param {number} value @param {number} largest
 */
export function signColour(value, largest) {
  return between(signed, inUnit(0.5 + (0.5 * value) / (largest || 1)));
}

/** @param {Colour} colour */
export const cssColour = ([r, g, b]) => `rgb(${r} ${g} ${b})`;
