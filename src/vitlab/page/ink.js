// Where the ink is: sums over the pixels of each patch.

import { argmax } from "./net/numbers.js";

/** @import { Squares } from "./net/model.js" */

/**
 * The patches that have a pixel brighter than a tenth.
 * @param {Float32Array} image @param {Squares} squares
 */
export const withInk = (image, squares) =>
  sums(image, squares, 1).flatMap(({ most }, patch) => (most > 0.1 ? [patch] : []));

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
