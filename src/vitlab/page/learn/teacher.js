// Teaching corrections, in a thread that does this once and ends.

import { parseSafetensors } from "../net/safetensors.js";
import { halved, teach } from "./correction.js";
import { openLesson } from "./lesson.js";
import { toSafetensors } from "./save.js";

/** @import { Config } from "../net/config.js" */
/** @import { Known, Scores, Shown, Step } from "./correction.js" */
/** @import { Facts } from "./lesson.js" */
/**
 * examples: what came with the network; lesson: what the page carries to learn from, if it is of the same data. One of
 * them is there.
 * @typedef {object} Task
 * @property {Config} config
 * @property {ArrayBuffer} weights
 * @property {Shown} corrections
 * @property {Shown | null} examples
 * @property {{ png: ArrayBuffer, facts: Facts } | null} lesson
 *
 * @typedef {{ type: "taught", before: Scores, after: Scores, measured: number, weights: ArrayBuffer }} Result
 * @typedef {{ type: "failed", message: string }} Failure
 * @typedef {Step | Result | Failure} Told
 */

/** @param {MessageEvent<Task>} event */
self.onmessage = async ({ data: { config, weights, corrections, examples, lesson } }) => {
  try {
    const known = await knownOf(examples, lesson);
    for (const told of teach(config, parseSafetensors(weights), corrections, known)) {
      if (told.type === "step") {
        self.postMessage(told);
      } else {
        const { parameters, ...rest } = told;
        self.postMessage({ ...rest, weights: toSafetensors(parameters.tensors) });
      }
    }
  } catch (error) {
    self.postMessage({ type: "failed", message: error instanceof Error ? error.message : String(error) });
  }
};

/**
 * What to rehearse, and other images to measure with: those that came with the network, unless it must learn from them,
 * and those of the lesson that nothing learns from.
 * @param {Shown | null} examples @param {Task["lesson"]} lesson
 * @returns {Promise<Known>}
 */
async function knownOf(examples, lesson) {
  if (lesson === null) return halved(/** @type {Shown} */ (examples));
  const { facts, png } = lesson;
  const { images, labels } = await openLesson(png, facts);
  /** @type {(first: number, end: number) => Shown} */
  const part = (first, end) => ({
    images: images.slice(first, end),
    labels: Array.from(labels.subarray(first, end)),
    side: facts.side,
  });
  const held = part(facts.train, facts.train + facts.held);
  const more = examples?.side === facts.side ? examples : { images: [], labels: [] };
  const measure = {
    images: [...more.images, ...held.images],
    labels: [...more.labels, ...held.labels],
    side: facts.side,
  };
  return { rehearse: part(0, facts.train), measure };
}
