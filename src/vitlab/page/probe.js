// Trying a network out: a reading of a drawing, which patches the answer hangs on, and how far it bears a disturbance.

import { cropped, disturbed, drawingSteps, normalised, STRENGTHS, toUnit } from "./preprocess.js";
import { softmax } from "./tensor.js";
import { ModelError } from "./weights.js";

/** One reading without deletion and curve; the messages of worker.js say what is in `job` and in the answer. */
export function readDrawing(network, job) {
  const { config } = network;
  const steps = drawingSteps(job.drawing, config, job.center, network.native);
  const unit = toUnit(steps.placed, steps.side, steps.side, config);
  const image = inputImage(network, unit, job.disturb, job.hidden);
  const shown = rowColumnChannel(image, config.channels);
  const input = normalised(image, config);
  const started = performance.now();
  network.run(input);
  const milliseconds = performance.now() - started;
  const trace = network.trace(job.want?.inside ?? true);
  if (!trace.logits.every(Number.isFinite)) {
    throw new ModelError("The network's answer is not a finite number; train it again with a lower lr.");
  }
  return { answer: { milliseconds, steps, image: shown, ...trace, deletion: null, curve: null }, unit, input };
}

/** Disturbed, cropped and with black patches: [C, S, S] in 0..1. */
function inputImage(network, unit, disturb, hidden = []) {
  const { config, squares } = network;
  const image = cropped(disturbed(unit, config.channels, config.model.image_size, disturb), config);
  for (const patch of hidden) {
    blank(image, squares, patch, new Array(config.channels).fill(0));
  }
  return image;
}

/**
 * By how much the probability of the top answer falls when a patch becomes black: Float32Array [grid * grid], negative
 * where it rises (look/attention.py's patch_deletion). `input` [C, S, S] is preprocessed. A generator that stops after
 * each patch, so that it can be given up; its value in the end is the map.
 */
export function* deletion(network, input, probabilities) {
  const { config, squares } = network;
  const { mean, std } = config.preprocess;
  const label = argmax(probabilities);
  const black = mean.map((value, c) => -value / std[c]);
  const falls = new Float32Array(squares.grid ** 2);
  const copy = new Float32Array(input.length);
  for (let patch = 0; patch < falls.length; patch++) {
    copy.set(input);
    blank(copy, squares, patch, black);
    falls[patch] = probabilities[label] - probabilityOf(network, copy, label);
    yield;
  }
  return falls;
}

/**
 * The probability of one answer at each strength of the disturbance `kind`, the other disturbances as they are: {label,
 * strengths, probabilities}. The answer is what the network says at strength 0, so that the curve does not change its
 * subject on the way. A generator like `deletion`.
 */
export function* curve(network, unit, job, kind) {
  const strengths = STRENGTHS[kind];
  const at = (strength) => {
    const image = inputImage(network, unit, { ...job.disturb, [kind]: strength }, job.hidden);
    return normalised(image, network.config);
  };
  const label = argmax(network.run(at(0)));
  const probabilities = new Float32Array(strengths.length);
  for (let i = 0; i < strengths.length; i++) {
    probabilities[i] = probabilityOf(network, at(strengths[i]), label);
    yield;
  }
  return { label, strengths, probabilities };
}

function probabilityOf(network, input, label) {
  const probabilities = network.run(input).slice();
  softmax(probabilities, 1, probabilities.length);
  return probabilities[label];
}

/** One patch of [C, S, S] filled with a number for each channel, in place; numbers outside the grid do nothing. */
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

/** [C, S, S] -> [S, S, C]. */
function rowColumnChannel(image, channels) {
  const count = image.length / channels;
  const from = (i) => (i % channels) * count + Math.floor(i / channels);
  return Float32Array.from({ length: image.length }, (_, i) => image[from(i)]);
}

function argmax(values) {
  return values.indexOf(values.reduce((a, b) => Math.max(a, b)));
}

/** The network against the logits that Python has computed for the first `count` examples, which have been opened:
 * {images, maxDifference, agree: all within 1e-4}. */
export function selfTest(network, toInput, examples, count) {
  const images = examples.images.slice(0, count);
  const differences = images.map((pixels, i) => {
    const logits = network.run(toInput({ width: examples.side, height: examples.side, pixels }, network.config));
    return logits.reduce((worst, value, k) => Math.max(worst, Math.abs(value - examples.logits[i][k])), 0);
  });
  const maxDifference = differences.reduce((a, b) => (b > a || Number.isNaN(b) ? b : a), 0);
  return { images: images.length, maxDifference, agree: maxDifference <= 1e-4 };
}
