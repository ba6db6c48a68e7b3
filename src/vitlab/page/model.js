// From a config.json and the tensors of a model.safetensors to a network that answers.

import { build as buildCnn } from "./cnn.js";
import { checkConfig, squaresOf } from "./geometry.js";
import { FileError, parseSafetensors } from "./safetensors.js";
import { build as buildVit } from "./vit.js";
import { ModelError } from "./weights.js";

/**
 * The network: {run, trace, squares, native, config}.
 *
 * run(input)      Float32Array [C, S, S], preprocessed -> logits [K]; nothing is allocated
 * trace(inside)   the Trace of that run: {logits, probabilities, attention: [{heads, tokens, weights [h, N, N]}],
 *                 lens: [[K], ...]}; the last two are [] for a CNN, and unless `inside`
 * squares         {grid, side, margin, size}: where the patches lie in an input of `size` pixels a side
 * native          side of the images that it learned from, before they were resized: image_size, as far as we know here
 */
export function buildModel(config, tensors) {
  checkConfig(config);
  const network = config.model.arch === "vit" ? buildVit(config, tensors) : buildCnn(config, tensors);
  return { ...network, squares: squaresOf(config.model), native: config.model.image_size, config };
}

/** The network of an opened file. */
export function openModel(config, buffer) {
  return buildModel(config, parseSafetensors(buffer));
}

/** An error as one sentence for people; what we did not foresee begins with what was under way, by type of message. */
export function sentence(error, type) {
  if (error instanceof ModelError || error instanceof FileError) return error.message;
  const what = type === "read" ? "The drawing could not be read" : "The model could not be loaded";
  return `${what}: ${error.message ?? error}.`;
}
