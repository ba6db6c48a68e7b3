// Where the ink is: sums over the pixels of each patch.

import { argmax } from "./net/numbers.js";

/** @import { Squares } from "./net/model.js" */

/**
 * The patches that have a pixel brighter than a tenth.
 * @param {Float32Array} image @param {Squares} squares
 */
export const withInk = (image, squares) =>
  sums(image, squares, 1).flatMap(({ most }, patch) => (most > 0.1 ? [patch] : []));

/**
 * The patches that see no such pixel, not even in the `overlap` pixels around them.
 * @param {Float32Array} image @param {Squares} squares @param {number} overlap
 */
export function withoutInk(image, { grid, side, margin, size }, overlap) {
  const empty = new Set(Array.from({ length: grid ** 2 }, (_, patch) => patch));
  /** @param {number} at  a row or column @returns {number[]} the rows or columns of patches that see it */
  const seen = (at) =>
    Array.from({ length: grid }, (_, i) => i).filter((i) => {
      const from = margin + i * side - overlap;
      return at >= from && at < from + side + 2 * overlap;
    });
  image.forEach((value, pixel) => {
    if (value <= 0.1) return;
    const columns = seen(pixel % size);
    for (const row of seen(Math.floor(pixel / size))) for (const column of columns) empty.delete(row * grid + column);
  });
  return [...empty];
}

/** @param {Float32Array} image @param {Squares} squares @param {number} channels */
export const brightest = (image, squares, channels) => argmax(sums(image, squares, channels).map(({ sum }) => sum));

/**
 * The sum and the largest value of each patch's first channel.
 * @param {Float32Array} image @param {Squares} squares @param {number} channels
 */
function sums(image, { grid, side, margin, size }, channels) {
  const found = Array.from({ length: grid ** 2 }, () => ({ sum: 0, most: 0 }));
  for (let y = 0; y < grid * side; y++) {
    for (let x = 0; x < grid * side; x++) {
      const value = image[((margin + y) * size + margin + x) * channels];
      const patch = found[Math.floor(y / side) * grid + Math.floor(x / side)];
      patch.sum += value;
      patch.most = Math.max(patch.most, value);
    }
  }
  return found;
}
