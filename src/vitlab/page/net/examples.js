// examples.json: known images, each with the logits that Python computed for it.

import { ModelError } from "./weights.js";

/** @import { Config } from "./config.js" */
/**
 * Square images [side, side, channels]; labels are null where unknown.
 * @typedef {object} Examples
 * @property {number} side
 * @property {1 | 3} channels
 * @property {(number | null)[]} labels
 * @property {Uint8Array[]} images
 * @property {number[][]} logits
 * @property {number[] | null} distances  from the training images, as vitlab/training/novelty.py defines them
 * @property {string | null} credit  a sentence that says whose images they are; null if they are the data set's
 */

/**
 * The contents of examples.json. ModelError if they are damaged.
 * @param {any} examples @param {Config} config
 * @returns {Examples}
 */
export function openExamples(examples, config) {
  const { side, channels, images, labels, logits, distances = null, credit = null } = examples ?? {};
  const lists = [images, labels, logits, distances ?? images].every(
    (list) => Array.isArray(list) && list.length === images.length,
  );
  const fits = lists && channels === config.channels;
  if (!fits || !logits.every((/** @type {unknown[]} */ row) => row.length === config.classes.length)) {
    throw new ModelError("examples.json is damaged or belongs to another model.");
  }
  /** @type {Uint8Array[]} */
  const opened = images.map((/** @type {string} */ text) =>
    Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)),
  );
  if (opened.some((pixels) => pixels.length !== side * side * channels)) {
    throw new ModelError("examples.json is damaged: an image does not have the stated size.");
  }
  return { side, channels, labels, images: opened, logits, distances, credit };
}
