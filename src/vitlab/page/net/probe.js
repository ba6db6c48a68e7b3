// Trying out a network: reading a drawing, which patches and parts its answer depends on, and how robust that answer is.

import { disturbed, STRENGTHS } from "./disturb.js";
import { argmax } from "./numbers.js";
import { cropped, drawingSteps, normalised, toInput, toUnit } from "./preprocess.js";
import { softmax } from "./tensor.js";
import { ModelError } from "./weights.js";

/** @import { Disturbance } from "./disturb.js" */
/** @import { Examples } from "./examples.js" */
/** @import { Network, Squares } from "./model.js" */
/** @import { Causes, Job, Kind } from "./worker.js" */

const AGREE = 1e-4;
const AGREE_DISTANCE = 1e-3; // of the threshold: a distance magnifies the last digits of features

/**
 * One reading, without deletion map and curve.
 * @param {Network} network @param {Job} job
 */
export function readDrawing(network, job) {
  const { config } = network;
  const steps = drawingSteps(job.drawing, config, job.center, network.native);
  const unit = toUnit(steps.placed, steps.side, steps.side, config);
  const image = inputImage(network, unit, job.disturb, job.hidden);
  const shown = rowColumnChannel(image, config.channels);
  const input = normalised(image, config);
  const started = performance.now();
  network.run(input, job.cuts);
  const milliseconds = performance.now() - started;
  const distance = job.cuts?.length ? null : distanceOf(network, input); // that is known of the whole network only
  const traits = job.want.traits ? network.traits(input) : null;
  const unlike = distance === null || network.bounds === null ? null : !(distance <= network.bounds.threshold);
  const trace = network.trace(job.want.inside ?? true);
  if (!trace.logits.every(Number.isFinite)) {
    throw new ModelError("The network's answer is not a finite number; train it again with a lower lr.");
  }
  const { open } = job.want;
  const opened = open ? network.open(open.patch, open.block, open.head) : null;
  const whole = job.cuts?.length ? probabilitiesOf(network, input) : trace.probabilities;
  return {
    answer: { milliseconds, steps, image: shown, distance, unlike, traits, ...trace, whole, opened },
    unit,
    input,
  };
}

/**
 * How far the last input is from what the network was trained on; null if that is not known.
 * @param {Network} network @param {Float32Array} input
 */
function distanceOf({ bounds, traits }, input) {
  return bounds === null ? null : bounds.distance(traits(input));
}

/**
 * Disturbed, cropped and with black patches: [C, S, S] in 0..1.
 * @param {Network} network @param {Float32Array} unit @param {Disturbance} disturb @param {number[]} hidden
 */
function inputImage(network, unit, disturb, hidden) {
  const { config, squares } = network;
  const image = cropped(disturbed(unit, config.channels, config.model.image_size, disturb), config);
  for (const patch of hidden) {
    blank(image, squares, patch, new Array(config.channels).fill(0));
  }
  return image;
}

/**
 * How much the probability of the top answer falls when a patch turns black: [grid * grid], negative where it rises
 * (patch_deletion in vitlab/look). `input` [C, S, S] is preprocessed. A generator, so it can be
 * stopped after each patch; it returns the map.
 * @param {Network} network @param {Float32Array} input @param {Float32Array} probabilities @param {string[]} [cuts]
 */
export function* deletion(network, input, probabilities, cuts) {
  const { config, squares } = network;
  const { mean, std } = config.preprocess;
  const label = argmax(probabilities);
  const black = mean.map((value, c) => -value / std[c]);
  const falls = new Float32Array(squares.grid ** 2);
  const copy = new Float32Array(input.length);
  for (let patch = 0; patch < falls.length; patch++) {
    copy.set(input);
    blank(copy, squares, patch, black);
    falls[patch] = probabilities[label] - probabilitiesOf(network, copy, cuts)[label];
    yield;
  }
  return falls;
}

/**
 * What the answer of the whole network becomes when one part of it is switched off, for every part that can be.
 * `input` [C, S, S] is preprocessed. A generator like `deletion`.
 * @param {Network} network @param {Float32Array} input
 * @returns {Generator<undefined, Causes>}
 */
export function* causes(network, input) {
  const whole = probabilitiesOf(network, input);
  const label = argmax(whole);
  const effects = [];
  for (const cut of network.cuts) {
    const probabilities = probabilitiesOf(network, input, [cut]);
    effects.push({ cut, probability: probabilities[label], answer: argmax(probabilities) });
    yield;
  }
  return { label, probability: whole[label], effects };
}

/**
 * The probability of one answer at each strength of one disturbance, with the others unchanged. It is the answer that
 * the network gives at strength 0, so the whole curve is about the same class. A generator like `deletion`.
 * @param {Network} network @param {Float32Array} unit @param {Job} job @param {Kind} kind
 */
export function* curve(network, unit, job, kind) {
  const strengths = STRENGTHS[kind];
  /** @param {number} strength */
  const at = (strength) => {
    const image = inputImage(network, unit, { ...job.disturb, [kind]: strength }, job.hidden);
    return normalised(image, network.config);
  };
  const label = argmax(network.run(at(0), job.cuts));
  const probabilities = new Float32Array(strengths.length);
  for (let i = 0; i < strengths.length; i++) {
    probabilities[i] = probabilitiesOf(network, at(strengths[i]), job.cuts)[label];
    yield;
  }
  return { label, strengths, probabilities };
}

/**
 * @param {Network} network @param {Float32Array} input @param {string[]} [cuts]
 */
function probabilitiesOf(network, input, cuts) {
  const probabilities = network.run(input, cuts).slice();
  softmax(probabilities, 1, probabilities.length);
  return probabilities;
}

/**
 * Fills one patch of [C, S, S] with one number per channel, in place; numbers outside the grid do nothing.
 * @param {Float32Array} image @param {Squares} squares @param {number} patch @param {number[]} values
 */
function blank(image, { grid, side, margin, size }, patch, values) {
  if (!(Number.isInteger(patch) && patch >= 0 && patch < grid * grid)) {
    return;
  }
  const top = margin + Math.floor(patch / grid) * side;
  const left = margin + (patch % grid) * side;
  values.forEach((value, c) => {
    for (let y = top; y < top + side; y++) {
      const start = (c * size + y) * size + left;
      image.fill(value, start, start + side);
    }
  });
}

/**
 * [C, S, S] -> [S, S, C].
 * @param {Float32Array} image @param {number} channels
 */
function rowColumnChannel(image, channels) {
  const count = image.length / channels;
  return image.map((_, i) => image[(i % channels) * count + Math.floor(i / channels)]);
}

/**
 * Compares the network with the logits and distances that Python computed for the first `count` examples. maxDistance:
 * the largest difference of distances, as a share of the threshold.
 * @param {Network} network @param {Examples} examples @param {number} count
 */
export function selfTest(network, examples, count) {
  const images = examples.images.slice(0, count);
  const distances = images.map(() => 0);
  const differences = images.map((pixels, i) => {
    const input = toInput({ width: examples.side, height: examples.side, pixels }, network.config);
    const logits = network.run(input);
    const distance = distanceOf(network, input);
    if (distance !== null && network.bounds !== null) {
      distances[i] = Math.abs(distance - (examples.distances?.[i] ?? Number.NaN)) / network.bounds.threshold;
    }
    return logits.reduce((worst, value, k) => Math.max(worst, Math.abs(value - examples.logits[i][k])), 0);
  });
  const [maxDifference, maxDistance] = [differences, distances].map(largest);
  const agree = maxDifference <= AGREE && maxDistance <= AGREE_DISTANCE;
  return { images: images.length, maxDifference, maxDistance, agree };
}

/**
 * NaN if one of them is.
 * @param {number[]} values
 */
function largest(values) {
  return values.reduce((a, b) => (b > a || Number.isNaN(b) ? b : a), 0);
}
