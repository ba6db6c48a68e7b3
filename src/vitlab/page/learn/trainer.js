// One training: batches in an order that the seed determines, steps, and the accuracy on images that it never sees.

import { argmax } from "../net/numbers.js";
import { createAdamW, rateAt } from "./adamw.js";
import { fill } from "./images.js";
import { crossEntropy } from "./layers.js";
import { openLearner } from "./network.js";
import { generator } from "./random.js";

/** @import { Config } from "../net/config.js" */
/** @import { Change, Images } from "./images.js" */
/** @import { Parameters } from "./network.js" */
/**
 * passes: how often each image is seen. part: which parameters learn. smoothing: of the labels.
 * @typedef {object} Recipe
 * @property {number} lr
 * @property {number} batch
 * @property {number} passes
 * @property {number} smoothing
 * @property {number} decay
 * @property {number} seed
 * @property {"linear" | "cosine"} schedule
 * @property {"all" | "head"} part
 * @property {Change | null} change  of the images; null: none
 *
 * Means over some images.
 * @typedef {{ loss: number, accuracy: number }} Score
 * @typedef {ReturnType<typeof createTrainer>} Trainer
 */

const STILL = { rotate: 0, shift: 0, zoom: 0 };
const WARM_UP = 0.1; // of all steps
const AT_ONCE = 64; // images, when only the answers are wanted

/**
 * @param {Config} config @param {Parameters} parameters @param {Images} images @param {Recipe} recipe
 */
export function createTrainer(config, parameters, images, recipe) {
  const classes = config.classes.length;
  const batch = Math.min(recipe.batch, images.count);
  const learner = openLearner(config, parameters, Math.max(batch, AT_ONCE));
  const perPass = Math.floor(images.count / batch); // what does not fill a batch waits for the next order
  const total = Math.max(1, Math.round(recipe.passes * perPass));
  const warmUp = Math.max(1, Math.round(WARM_UP * total));
  const rates = { lr: recipe.lr, beta1: 0.9, beta2: 0.95, eps: 1e-8, decay: recipe.decay };
  const apply = createAdamW(parameters, rates, (name) => recipe.part === "all" || name.startsWith("head."));
  const [orders, changes] = [generator(recipe.seed, "order"), generator(recipe.seed, "changes")];
  const order = Int32Array.from({ length: images.count }, (_, i) => i);
  const inputs = new Float32Array(learner.most * learner.inputLength);
  const labels = new Int32Array(learner.most);
  const dlogits = new Float32Array(learner.most * classes);
  let done = 0;

  /**
   * The next step; the means over its batch.
   * @returns {Score}
   */
  function step() {
    const place = done % perPass;
    if (place === 0) orders.shuffle(order);
    for (let i = 0; i < batch; i++) {
      const index = order[place * batch + i];
      const { change } = recipe;
      fill(images, index, config, inputs, i * learner.inputLength, change && changes, change ?? STILL);
      labels[i] = images.labels[index];
    }
    const logits = learner.run(inputs, batch);
    const loss = crossEntropy(logits, labels, recipe.smoothing, dlogits, batch, classes) / batch;
    const accuracy = correct(logits, labels, batch, classes) / batch;
    learner.back(dlogits, batch, recipe.part === "head");
    apply(learner.gradients.flat, recipe.lr * rateAt(done, total, warmUp, recipe.schedule));
    done += 1;
    return { loss, accuracy };
  }

  /**
   * Loss (without smoothing) and accuracy on all of these images, as they are.
   * @param {Images} held
   * @returns {Score}
   */
  function score(held) {
    const sum = { loss: 0, accuracy: 0 };
    for (let first = 0; first < held.count; first += AT_ONCE) {
      const count = Math.min(AT_ONCE, held.count - first);
      for (let i = 0; i < count; i++) {
        fill(held, first + i, config, inputs, i * learner.inputLength, null, STILL);
        labels[i] = held.labels[first + i];
      }
      const logits = learner.run(inputs, count);
      sum.loss += crossEntropy(logits, labels, 0, dlogits, count, classes) / held.count;
      sum.accuracy += correct(logits, labels, count, classes) / held.count;
    }
    return sum;
  }

  return { config, parameters, step, score, total, perPass, batch, done: () => done };
}

/**
 * @param {Float32Array} logits @param {Int32Array} labels @param {number} rows @param {number} classes
 */
function correct(logits, labels, rows, classes) {
  let count = 0;
  for (let r = 0; r < rows; r++) {
    if (argmax(logits.subarray(r * classes, (r + 1) * classes)) === labels[r]) count += 1;
  }
  return count;
}
