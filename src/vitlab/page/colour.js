// Two colour scales, computed in OKLCH (Ottosson 2020), even in lightness and readable without telling red from green.

/** @typedef {[number, number, number]} Colour  red, green, blue in 0..255 */

const STEPS = 256;

// Dark violet over blue and green to light yellow: lightness rises evenly.
const SEQUENTIAL = table((t) => [
  0.2 + 0.74 * t,
  0.06 + 0.1 * Math.sin(Math.PI * Math.min(1, 0.25 + 0.7 * t)),
  292 - 188 * t,
]);

// -1 blue, 0 dark neutral, 1 orange: lightness tells the size, hue the sign.
const DIVERGING = table((t) => {
  const size = Math.abs(2 * t - 1);
  return [0.24 + 0.56 * size, 0.01 + 0.14 * size, t < 0.5 ? 250 : 62];
});

/** @param {(t: number) => Colour} colour */
function table(colour) {
  return Array.from({ length: STEPS }, (_, i) => toSrgb(...colour(i / (STEPS - 1))));
}

/**
 * @param {number} lightness @param {number} chroma @param {number} hue
 * @returns {Colour}
 */
function toSrgb(lightness, chroma, hue) {
  const a = chroma * Math.cos((hue * Math.PI) / 180);
  const b = chroma * Math.sin((hue * Math.PI) / 180);
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  const [red, green, blue] = [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ].map((v) => {
    const clipped = Math.min(1, Math.max(0, v));
    return Math.round(255 * (clipped <= 0.0031308 ? 12.92 * clipped : 1.055 * clipped ** (1 / 2.4) - 0.055));
  });
  return [red, green, blue];
}

/** @type {(scale: Colour[], t: number) => Colour} */
const at = (scale, t) => scale[Math.round(Math.min(1, Math.max(0, t)) * (STEPS - 1))];

export const EVEN_SHARES = 8; // where the attention scale ends

// Attention: a weight beside the even share 1 / patches; the root lets small shares be seen. Fixed: 0 to 8 even shares.
/** @type {(weight: number, patches: number) => Colour} */
export const attentionColour = (weight, patches) => at(SEQUENTIAL, Math.sqrt((weight * patches) / EVEN_SHARES));

// A change of probability, -1 to 1, signed root. Fixed.
/** @type {(fall: number) => Colour} */
export const fallColour = (fall) => at(DIVERGING, 0.5 + 0.5 * Math.sign(fall) * Math.sqrt(Math.abs(fall)));

/** @type {(colour: Colour) => string} */
export const cssColour = ([r, g, b]) => `rgb(${r} ${g} ${b})`;
