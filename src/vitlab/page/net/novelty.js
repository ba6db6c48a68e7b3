// How far an image is from what a network was trained on, as vitlab/training/novelty.py defines it: the larger of two
// distances from the nearest class mean, that of its traits (features averaged over places, logits, mean and deviation
// of the pixels in 4 x 4 cells) and that of six statistics of its pixels. In double precision.

import { must } from "./config.js";
import { parseSafetensors } from "./safetensors.js";
import { shelf as shelfOf } from "./weights.js";

/** @import { Config } from "./config.js" */
/** @import { Shelf } from "./weights.js" */
/**
 * threshold: an image that is farther away is unlike anything that the network was trained on.
 * @typedef {{ distance: (traits: Float64Array) => number, threshold: number }} Bounds
 */

const GRID = 4; // cells a side
const STATISTICS = 6;
const DARK_LEVEL = 0.1001; // of pixels in 0 to 1
const LIGHT_LEVEL = 0.8999;

/**
 * The contents of novelty.safetensors. ModelError or FileError if they are damaged or do not fit `width` traits.
 * @param {ArrayBuffer} buffer @param {{ threshold: number }} facts @param {number} width
 * @returns {Bounds}
 */
export function openNovelty(buffer, { threshold }, width) {
  const shelf = shelfOf(parseSafetensors(buffer));
  const ofTraits = takeDistance(shelf, "", width - STATISTICS);
  const ofStatistics = takeDistance(shelf, "statistics_", STATISTICS);
  const scales = shelf.take("scales", [2]);
  must(scales[0] > 0 && scales[1] > 0, "novelty has a scale that is not positive");
  shelf.finish();

  /** @param {Float64Array} traits */
  function distance(traits) {
    const split = width - STATISTICS;
    return Math.max(ofTraits(traits.subarray(0, split)) / scales[0], ofStatistics(traits.subarray(split)) / scales[1]);
  }

  return { distance, threshold };
}

/**
 * The distance from the nearest class mean of `width` numbers.
 * @param {Shelf} shelf @param {string} prefix @param {number} width
 */
function takeDistance(shelf, prefix, width) {
  const [classes] = shelf.shapeOf(`${prefix}centres`);
  must(classes > 0, "novelty has no classes");
  const mean = shelf.take(`${prefix}mean`, [width]);
  const whitening = shelf.take(`${prefix}whitening`, [width, width]);
  const centres = shelf.take(`${prefix}centres`, [classes, width]);
  const white = new Float64Array(width);

  return (/** @type {Float64Array} */ values) => {
    for (let row = 0; row < width; row++) {
      let sum = 0;
      for (let i = 0; i < width; i++) {
        sum += whitening[row * width + i] * (values[i] - mean[i]);
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
  };
}

/**
 * The traits of an input [C, S, S], and its statistics: Float64 [D]. `at(place, i)` is where number i of a place lies in its features.
 * @param {Float32Array} input @param {Config} config @param {Float32Array} features @param {number} places
 * @param {number} dim @param {(place: number, i: number) => number} at @param {Float32Array} logits
 */
export function traitsOf(input, { channels, preprocess }, features, places, dim, at, logits) {
  const traits = new Float64Array(dim + logits.length + 2 * channels * GRID ** 2 + STATISTICS);
  for (let i = 0; i < dim; i++) {
    let sum = 0;
    for (let place = 0; place < places; place++) {
      sum += features[at(place, i)];
    }
    traits[i] = sum / places;
  }
  traits.set(logits, dim);
  fillCells(input, channels, traits.subarray(dim + logits.length));
  traits.set(statisticsOf(input, channels, preprocess), traits.length - STATISTICS);
  return traits;
}

/**
 * With x the mean over channels in 0 to 1 and |d| the differences of neighbours: mean x, share of light pixels, share of
 * those between dark and light, sum |d| per pixel, sum |d| / (1 + sum x), root mean square of x.
 * @param {Float32Array} input @param {number} channels @param {Config["preprocess"]} preprocess
 */
function statisticsOf(input, channels, { mean, std }) {
  const pixels = input.length / channels;
  const side = Math.round(Math.sqrt(pixels));
  const x = new Float64Array(pixels);
  for (let c = 0; c < channels; c++) {
    for (let i = 0; i < pixels; i++) x[i] += (input[c * pixels + i] * std[c] + mean[c]) / channels;
  }
  let [ink, light, middle, edges, squares] = [0, 0, 0, 0, 0];
  for (let i = 0; i < pixels; i++) {
    ink += x[i];
    squares += x[i] ** 2;
    if (x[i] > LIGHT_LEVEL) light++;
    else if (x[i] > DARK_LEVEL && x[i] < LIGHT_LEVEL) middle++;
    if (i % side > 0) edges += Math.abs(x[i] - x[i - 1]);
    if (i >= side) edges += Math.abs(x[i] - x[i - side]);
  }
  const shares = [ink, light, middle, edges].map((sum) => sum / pixels);
  return [...shares, edges / (1 + ink), Math.sqrt(squares / pixels)];
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
