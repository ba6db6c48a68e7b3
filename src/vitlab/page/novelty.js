// How far an image is from what a network was trained on, as vitlab/training/novelty.py defines it: the distance of its
// traits (features averaged over places, then logits) from the nearest class mean. In double precision.

import { must } from "./config.js";
import { parseSafetensors } from "./safetensors.js";
import { shelf as shelfOf } from "./weights.js";

/**
 * threshold: an image that is farther away is unlike anything that the network was trained on.
 * @typedef {{ distance: (traits: Float64Array) => number, threshold: number }} Bounds
 */

/**
 * The contents of novelty.safetensors. ModelError or FileError if they are damaged or do not fit `width` traits.
 * @param {ArrayBuffer} buffer @param {{ threshold: number }} facts @param {number} width
 * @returns {Bounds}
 */
export function openNovelty(buffer, { threshold }, width) {
  const shelf = shelfOf(parseSafetensors(buffer));
  const [classes] = shelf.shapeOf("centres");
  must(classes > 0, "novelty has no classes");
  const mean = shelf.take("mean", [width]);
  const whitening = shelf.take("whitening", [width, width]);
  const centres = shelf.take("centres", [classes, width]);
  shelf.finish();
  const white = new Float64Array(width);

  /** @param {Float64Array} traits */
  function distance(traits) {
    for (let row = 0; row < width; row++) {
      let sum = 0;
      for (let i = 0; i < width; i++) {
        sum += whitening[row * width + i] * (traits[i] - mean[i]);
      }
      white[row] = sum;
    }
    let nearest = Number.POSITIVE_INFINITY;
    for (let first = 0; first < centres.length; first += width) {
      let squares = 0;
      for (let i = 0; i < width; i++) {
        squares += (white[i] - centres[first + i]) ** 2;
      }
      nearest = Math.min(nearest, squares);
    }
    return Math.sqrt(nearest);
  }

  return { distance, threshold };
}

/**
 * The mean over places of features, then the logits: Float64 [D + K]. `at(place, i)` is where number i of a place lies.
 * @param {Float32Array} features @param {number} places @param {number} dim
 * @param {(place: number, i: number) => number} at @param {Float32Array} logits
 */
export function traitsOf(features, places, dim, at, logits) {
  const traits = new Float64Array(dim + logits.length);
  for (let i = 0; i < dim; i++) {
    let sum = 0;
    for (let place = 0; place < places; place++) {
      sum += features[at(place, i)];
    }
    traits[i] = sum / places;
  }
  traits.set(logits, dim);
  return traits;
}
