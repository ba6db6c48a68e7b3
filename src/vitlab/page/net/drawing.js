// From a free drawing to an image like those of MNIST, prepared as MNIST's authors did: the ink found on its paper
// (paper.js), cropped, scaled to 20 pixels, and placed with its centre of mass in the middle. The same in Python: vitlab/predict/drawing.py.

import { luma } from "./numbers.js";
import { borderOf, boxAround, findInk, NO_INK, TINY } from "./paper.js";

/** @import { Box, Picture } from "./paper.js" */

const SIDE = 28;
const LONGEST = 20;
const CENTRE = 14.5; // where MNIST's digits have their centre of mass
const NEAR = 0.6; // pixels that a centre of mass may be away from it
const TIE = 1e-6; // a centre exactly between two places goes to the right, whatever the last bit of its sum

/**
 * `placed` is the result [28, 28], bright ink on black. Without ink, `box` and `scaled` are null, and `placed` is black.
 * `reason`: why no drawing was found that can be read, or null.
 * @typedef {object} Normalised
 * @property {boolean} inverted
 * @property {Box | null} box
 * @property {{ width: number, height: number, pixels: Uint8Array } | null} scaled
 * @property {Uint8Array} placed
 * @property {string | null} reason
 */

/**
 * MNIST's normalisation of a drawing on any paper. What this has made already comes back unchanged.
 * @param {Picture} picture
 * @returns {Normalised}
 */
export function centerDrawing(picture) {
  const done = alreadyNormalised(picture);
  if (done !== null) return done;
  const { ink, left, top } = closest(picture);
  const { darker: inverted, reason, cover } = ink;
  if (ink.box === null) return { inverted, box: null, scaled: null, placed: new Uint8Array(SIDE * SIDE), reason };
  const [wide, high] = [ink.box[2] - ink.box[0], ink.box[3] - ink.box[1]];
  const longest = Math.max(wide, high);
  const width = scaledSide(wide, longest);
  const height = scaledSide(high, longest);
  const small = resample(cover.values, cover.width, ink.box, width, height);
  const brightest = small.reduce((a, b) => Math.max(a, b), 0);
  const strong = small.map((value) => value * (255 / brightest)); // thin strokes fade when they are scaled down
  const box = inPicture(ink.box, ink.factor, left, top, picture);
  return {
    inverted,
    box,
    scaled: { width, height, pixels: rounded(strong) },
    placed: place(strong, width, height),
    reason,
  };
}

/**
 * The ink, and where the part of the picture begins that it was found in. A drawing that is small in a large picture is
 * looked at again in a part of it, or it would lose its details.
 * @param {Picture} picture
 */
function closest(picture) {
  const ink = findInk(picture);
  const first = { ink, left: 0, top: 0 };
  if (ink.box === null || ![null, TINY].includes(ink.reason) || ink.factor === 1) return first;
  const box = inPicture(ink.box, ink.factor, 0, 0, picture);
  const margin = Math.floor(Math.max(box[2] - box[0], box[3] - box[1]) / 2);
  const [left, top] = [Math.max(0, box[0] - margin), Math.max(0, box[1] - margin)];
  const part = cut(
    picture,
    left,
    top,
    Math.min(picture.width, box[2] + margin),
    Math.min(picture.height, box[3] + margin),
  );
  if (2 * Math.max(part.width, part.height) > Math.max(picture.width, picture.height)) return first;
  const again = findInk(part);
  return again.reason !== null || again.darker !== ink.darker ? first : { ink: again, left, top };
}

/**
 * @param {Picture} picture @param {number} left @param {number} top @param {number} right @param {number} bottom
 * @returns {Picture}
 */
function cut({ width, channels, pixels }, left, top, right, bottom) {
  const length = (right - left) * channels;
  const part = new Uint8Array(length * (bottom - top));
  for (let y = top; y < bottom; y++) {
    const start = (y * width + left) * channels;
    part.set(pixels.subarray(start, start + length), (y - top) * length);
  }
  return { width: right - left, height: bottom - top, channels, pixels: part };
}

/**
 * The box in pixels of the whole picture.
 * @param {Box} box @param {number} factor @param {number} x @param {number} y @param {Picture} picture
 * @returns {Box}
 */
function inPicture([left, top, right, bottom], factor, x, y, { width, height }) {
  return [
    x + factor * left,
    y + factor * top,
    Math.min(x + factor * right, width),
    Math.min(y + factor * bottom, height),
  ];
}

/**
 * The steps of a picture that is the result of this normalisation, or its negative: 28 x 28, grey, exactly black around
 * a box whose longest side is 20 (or a little less), with the centre of mass in the middle; else null.
 * @param {Picture} picture
 * @returns {Normalised | null}
 */
function alreadyNormalised({ width, height, channels, pixels }) {
  if (width !== SIDE || height !== SIDE) return null;
  if (pixels.some((value, i) => value !== pixels[i - (i % channels)])) return null;
  for (const inverted of [false, true]) {
    const grey = Uint8Array.from({ length: SIDE * SIDE }, (_, i) => {
      return inverted ? 255 - pixels[i * channels] : pixels[i * channels];
    });
    const box = boxAround(grey, SIDE, SIDE);
    const longest = Math.max(box[2] - box[0], box[3] - box[1]);
    if (longest > LONGEST || longest < LONGEST - 2 || !grey.some((value) => value >= 254)) continue;
    const { x, y } = middleOf(Float64Array.from(grey), SIDE, SIDE);
    if (Math.max(Math.abs(x - CENTRE), Math.abs(y - CENTRE)) > NEAR) continue;
    const part = cut({ width, height, channels: 1, pixels: grey }, ...box);
    return { inverted, box, scaled: part, placed: grey, reason: null };
  }
  return null;
}

/**
 * Polarity only, told by the border, then the whole drawing resampled to 28 x 28.
 * @param {Picture} picture
 * @returns {Normalised}
 */
export function plainDrawing({ width, height, channels, pixels }) {
  const grey = Uint8Array.from({ length: width * height }, (_, i) =>
    channels === 1 ? pixels[i] : luma(pixels[3 * i], pixels[3 * i + 1], pixels[3 * i + 2]),
  );
  const edge = borderOf({ width, height, values: grey }).sort((a, b) => a - b);
  const middle = (edge[Math.floor((edge.length - 1) / 2)] + edge[Math.ceil((edge.length - 1) / 2)]) / 2;
  const inverted = middle > 127;
  /** @type {Box} */
  const box = [0, 0, width, height];
  const bright = inverted ? grey.map((value) => 255 - value) : grey;
  const placed = rounded(resample(bright, width, box, SIDE, SIDE));
  const reason = placed.some((value) => value !== 0) ? null : NO_INK;
  return { inverted, box, scaled: { width: SIDE, height: SIDE, pixels: placed }, placed, reason };
}

/**
 * In proportion to the longest side, which becomes 20 pixels; halves round up. Exact: computed in whole numbers.
 * @param {number} length @param {number} longest
 */
function scaledSide(length, longest) {
  return Math.max(1, Math.floor((2 * LONGEST * length + longest) / (2 * longest)));
}

/**
 * The pixels inside `box` of an image `stride` wide, resampled to [toHeight, toWidth] with a triangle filter that grows
 * with the reduction ("bilinear with antialias"), first along the rows, then along the columns.
 * @param {Uint8Array | Float64Array} pixels @param {number} stride @param {Box} box @param {number} toWidth @param {number} toHeight
 */
export function resample(pixels, stride, [left, top, right, bottom], toWidth, toHeight) {
  const across = triangles(right - left, toWidth);
  const down = triangles(bottom - top, toHeight);
  const rows = new Float64Array((bottom - top) * toWidth);
  for (let y = 0; y < bottom - top; y++) {
    for (let x = 0; x < toWidth; x++) {
      const { first, weights } = across[x];
      const start = (top + y) * stride + left + first;
      let sum = 0;
      for (let i = 0; i < weights.length; i++) {
        sum += weights[i] * pixels[start + i];
      }
      rows[y * toWidth + x] = sum;
    }
  }
  const out = new Float64Array(toHeight * toWidth);
  for (let y = 0; y < toHeight; y++) {
    const { first, weights } = down[y];
    for (let x = 0; x < toWidth; x++) {
      let sum = 0;
      for (let i = 0; i < weights.length; i++) {
        sum += weights[i] * rows[(first + i) * toWidth + x];
      }
      out[y * toWidth + x] = sum;
    }
  }
  return out;
}

/**
 * For each of `to` output pixels, the first of the `from` input pixels that it sees, and their weights, which sum to 1.
 * @param {number} from @param {number} to
 */
function triangles(from, to) {
  const scale = from / to;
  const support = Math.max(scale, 1);
  return Array.from({ length: to }, (_, x) => {
    const centre = (x + 0.5) * scale;
    const first = Math.max(0, Math.floor(centre - support));
    const end = Math.min(from, Math.ceil(centre + support));
    const weights = [];
    for (let i = first; i < end; i++) {
      weights.push(Math.max(0, 1 - Math.abs(i + 0.5 - centre) / support));
    }
    const sum = weights.reduce((a, b) => a + b, 0);
    return { first, weights: weights.map((weight) => weight / sum) };
  });
}

/**
 * The small image in one of 28 x 28, its centre of mass as near to CENTRE as possible with nothing cut off.
 * @param {Float64Array} small @param {number} width @param {number} height
 */
function place(small, width, height) {
  const { x, y } = middleOf(small, width, height);
  /** @type {(middle: number, size: number) => number} */
  const put = (middle, size) => Math.min(SIDE - size, Math.max(0, Math.floor(CENTRE - middle + 0.5 + TIE)));
  const [left, top] = [put(x, width), put(y, height)];
  const placed = new Float64Array(SIDE * SIDE);
  for (let row = 0; row < height; row++) {
    placed.set(small.subarray(row * width, (row + 1) * width), (top + row) * SIDE + left);
  }
  return rounded(placed);
}

/**
 * The centre of mass.
 * @param {Float64Array} image @param {number} width @param {number} height
 */
function middleOf(image, width, height) {
  let [mass, momentX, momentY] = [0, 0, 0];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const value = image[y * width + x];
      mass += value;
      momentX += value * (x + 0.5);
      momentY += value * (y + 0.5);
    }
  }
  return { x: momentX / mass, y: momentY / mass };
}

/** @param {Float64Array} values */
function rounded(values) {
  return Uint8Array.from(values, (value) => Math.min(255, Math.max(0, Math.floor(value + 0.5))));
}
