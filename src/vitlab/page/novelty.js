// How far an image is from what a network was trained on, as vitlab/training/novelty.py defines it: the distance of its
// traits (features averaged over places, logits, mean and deviation of the pixels in 4 x 4 cells) from the nearest class
// mean. In double precision.

import { must } from "./config.js";
import { parseSafetensors } from "./safetensors.js";
import { shelf as shelfOf } from "./weights.js";

/**
 * threshold: an image that is farther away is unlike anything that the network was trained on.
 * @typedef {{ distance: (traits: Float64Array) => number, threshold: number }} Bounds
 */

const GRID = 4; // cells a side

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
 * The traits of an input [C, S, S], Float64 [D]. `at(place, i)` is where number i of a place lies in its features.
 * @param {Float32Array} input @param {number} channels @param {Float32Array} features @param {number} places
 * @param {number} dim @param {(place: number, i: number) => number} at @param {Float32Array} logits
 */
export function traitsOf(input, channels, features, places, dim, at, logits) {
  const traits = new Float64Array(dim + logits.length + 2 * channels * GRID ** 2);
  for (let i = 0; i < dim; i++) {
    let sum = 0;
    for (let place = 0; place < places; place++) {
      sum += features[at(place, i)];
    }
    traits[i] = sum / places;
  }
  traits.set(logits, dim);
  fillCells(input, channels, traits.subarray(dim + logits.length));
  return traits;
}

/**
 * Mean and standard deviation of the pixels in GRID x GRID cells, by channel, row, column.
 * @param {Float32Array} input @param {number} channels @param {Float64Array} out
 */
function fillCells(input, channels, out) {
  const side = Math.round(Math.sqrt(input.length / channels));
  const spans = Array.from({ length: GRID }, (_, i) => {
    const first = Math.floor((i * side) / GRID);
    return { first, end: Math.max(Math.floor(((i + 1) * side) / GRID), first + 1) };
  });
  let next = 0;
  for (let c = 0; c < channels; c++) {
    for (const rows of spans) {
      for (const columns of spans) {
        const cell = [];
        for (let y = rows.first; y < rows.end; y++) {
          for (let x = columns.first; x < columns.end; x++) cell.push(input[(c * side + y) * side + x]);
        }
        const mean = cell.reduce((a, b) => a + b) / cell.length;
        out[next++] = mean;
        out[next++] = Math.sqrt(cell.reduce((sum, value) => sum + (value - mean) ** 2, 0) / cell.length);
      }
    }
  }
}
