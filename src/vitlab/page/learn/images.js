// Images to learn from, and small changes of them: turned, shifted, zoomed, as vitlab/training/augment.py does.

import { toUnit } from "../net/preprocess.js";

/** @import { Config } from "../net/config.js" */
/** @import { Generator } from "./random.js" */
/**
 * `units` are images [N, C, S, S] in 0..1 at the model's image_size; labels are places in its classes.
 * @typedef {{ units: Float32Array, labels: Int32Array, count: number, length: number }} Images
 *
 * rotate: degrees, shift: pixels, zoom: share; each image gets as much at most, either way.
 * @typedef {{ rotate: number, shift: number, zoom: number }} Change
 */

/**
 * @param {Uint8Array[]} pixels square images of bytes [side, side, C] @param {ArrayLike<number>} labels
 * @param {number} side @param {Config} config
 * @returns {Images}
 */
export function imagesOf(pixels, labels, side, config) {
  const length = config.channels * config.model.image_size ** 2;
  const units = new Float32Array(pixels.length * length);
  pixels.forEach((one, i) => {
    units.set(toUnit(one, side, side, config), i * length);
  });
  return { units, labels: Int32Array.from(labels), count: pixels.length, length };
}

/**
 * Both, one after the other.
 * @param {Images} a @param {Images} b
 * @returns {Images}
 */
export function joined(a, b) {
  const units = new Float32Array(a.units.length + b.units.length);
  units.set(a.units);
  units.set(b.units, a.units.length);
  return { units, labels: Int32Array.of(...a.labels, ...b.labels), count: a.count + b.count, length: a.length };
}

/**
 * @param {Images} images @param {ArrayLike<number>} places
 * @returns {Images}
 */
export function chosen({ units, labels, length }, places) {
  const some = new Float32Array(places.length * length);
  for (let i = 0; i < places.length; i++) {
    some.set(units.subarray(places[i] * length, (places[i] + 1) * length), i * length);
  }
  return { units: some, labels: Int32Array.from(places, (place) => labels[place]), count: places.length, length };
}

/**
 * Image number `index`, cropped and normalised, written to `to` from `start` on; changed at random if `draw` is given.
 * @param {Images} images @param {number} index @param {Config} config @param {Float32Array} to @param {number} start
 * @param {Generator | null} draw @param {Change} change
 */
export function fill({ units, length }, index, config, to, start, draw, change) {
  const { channels, model, preprocess } = config;
  const side = model.image_size;
  const size = preprocess.crop ?? side;
  const first = Math.floor((side - size) / 2);
  const plane = side * side;
  const from = index * length;
  let [cos, sin, right, down] = [1, 0, 0, 0];
  if (draw !== null) {
    const angle = ((2 * draw.uniform() - 1) * change.rotate * Math.PI) / 180;
    const scale = 1 + (2 * draw.uniform() - 1) * change.zoom;
    [cos, sin] = [Math.cos(angle) / scale, Math.sin(angle) / scale];
    right = (2 * draw.uniform() - 1) * change.shift;
    down = (2 * draw.uniform() - 1) * change.shift;
  }
  const middle = (side - 1) / 2;
  for (let y = 0, at = start; y < size; y++) {
    for (let x = 0; x < size; x++, at++) {
      const [u, v] = [x + first - middle - right, y + first - middle - down];
      // Pixels beyond the edge are those at the edge.
      const px = Math.min(side - 1, Math.max(0, cos * u + sin * v + middle));
      const py = Math.min(side - 1, Math.max(0, cos * v - sin * u + middle));
      const [left, top] = [Math.floor(px), Math.floor(py)];
      const [a, b] = [px - left, py - top];
      const here = from + top * side + left;
      const across = left + 1 < side ? 1 : 0;
      const below = top + 1 < side ? side : 0;
      for (let c = 0; c < channels; c++) {
        const p = here + c * plane;
        const upper = (1 - a) * units[p] + a * units[p + across];
        const lower = (1 - a) * units[p + below] + a * units[p + below + across];
        to[at + c * size * size] = ((1 - b) * upper + b * lower - preprocess.mean[c]) / preprocess.std[c];
      }
    }
  }
}
