// Teaching a trained network what it read wrongly, without forgetting the rest: corrections between images that it knows
// already (rehearsal); first the head learns alone, then everything.

import { chosen, imagesOf, joined } from "./images.js";
import { inOneArray } from "./network.js";
import { generator } from "./random.js";
import { createTrainer } from "./trainer.js";

/** @import { Config } from "../net/config.js" */
/** @import { Tensor } from "../net/safetensors.js" */
/** @import { Images } from "./images.js" */
/** @import { Parameters } from "./network.js" */
/** @import { Score } from "./trainer.js" */
/**
 * Square images of bytes [side, side, C] and the places of their classes.
 * @typedef {{ images: Uint8Array[], labels: number[], side: number }} Shown
 *
 * Images that the network knows: to rehearse, and others to measure with.
 * @typedef {{ rehearse: Shown, measure: Shown }} Known
 *
 * What one teaching changed: on the corrections, and on known images that it did not learn from.
 * @typedef {{ corrections: Score, known: Score }} Scores
 * @typedef {{ type: "step", step: number, steps: number }} Step
 * @typedef {{ type: "taught", before: Scores, after: Scores, measured: number, parameters: Parameters }} Taught
 */

const ROUND = 16 * 64; // images in a pass
const SHARE = 0.25; // of them are corrections, at most,
const TIMES = 24; // each so often, at most: a few, again and again, would cost more of what it knows
const SEED = 0; // the same corrections give the same network
const CHANGE = { rotate: 10, shift: 1.5, zoom: 0.1 };
const RECIPE = { batch: 64, smoothing: 0.1, decay: 0.05, seed: SEED, schedule: "linear", change: CHANGE };
const PHASES = [
  { part: "head", lr: 0.003, passes: 1 },
  { part: "all", lr: 0.001, passes: 2 },
];

/**
 * Trains copies of `tensors`. Reports each step, and at the end what has changed.
 * @param {Config} config @param {Map<string, Tensor>} tensors @param {Shown} corrections @param {Known} known
 * @returns {Generator<Step | Taught>}
 */
export function* teach(config, tensors, corrections, known) {
  const parameters = inOneArray(tensors);
  /** @param {Shown} shown */
  const open = ({ images, labels, side }) => imagesOf(images, labels, side, config);
  const [wrong, measure] = [open(corrections), open(known.measure)];
  const mixed = mix(wrong, open(known.rehearse));
  const trainers = PHASES.map((phase) =>
    createTrainer(config, parameters, mixed, /** @type {any} */ ({ ...RECIPE, ...phase })),
  );
  const scores = () => ({ corrections: trainers[0].score(wrong), known: trainers[0].score(measure) });
  const before = scores();
  const steps = trainers.reduce((sum, { total }) => sum + total, 0);
  let step = 0;
  for (const trainer of trainers) {
    while (trainer.done() < trainer.total) {
      trainer.step();
      yield { type: "step", step: ++step, steps };
    }
  }
  yield { type: "taught", before, after: scores(), measured: measure.count, parameters };
}

/**
 * One pass: corrections and known images, repeated to fill their shares.
 * @param {Images} wrong @param {Images} known
 */
function mix(wrong, known) {
  const many = Math.min(Math.round(SHARE * ROUND), TIMES * wrong.count);
  const order = Int32Array.from({ length: known.count }, (_, i) => i);
  generator(SEED, "rehearsal").shuffle(order);
  return joined(
    chosen(
      wrong,
      Array.from({ length: many }, (_, i) => i % wrong.count),
    ),
    chosen(
      known,
      Array.from({ length: ROUND - many }, (_, i) => order[i % known.count]),
    ),
  );
}

/**
 * Known images in two parts, drawn at random but always the same.
 * @param {Shown} shown
 * @returns {Known}
 */
export function halved({ images, labels, side }) {
  const order = Int32Array.from({ length: images.length }, (_, i) => i);
  generator(SEED, "halves").shuffle(order);
  const half = Math.ceil(images.length / 2);
  /** @param {Int32Array} places */
  const part = (places) => ({
    images: Array.from(places, (place) => images[place]),
    labels: Array.from(places, (place) => labels[place]),
    side,
  });
  return { rehearse: part(order.subarray(0, half)), measure: part(order.subarray(half)) };
}
