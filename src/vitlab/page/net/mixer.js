// The MLP-Mixer, as vitlab/model/mixer.py defines it: a Vision Transformer whose blocks mix tokens through dense layers
// across places (block.js) instead of attention, without positions and class token.

import { must } from "./config.js";
import * as vit from "./vit.js";

/** @import { Config, ModelKnobs } from "./config.js" */
/** @import { Built } from "./model.js" */
/** @import { Tensor } from "./safetensors.js" */

export const squaresOf = vit.squaresOf;

/**
 * ModelError for values that do not fit together, or are too large for a page.
 * @param {ModelKnobs} model
 */
export function checkKnobs(model) {
  vit.checkPatches(model);
  must(model.pool !== "cls", "an MLP-Mixer has no class token for pool cls");
}

/**
 * ModelError if the weights do not fit. The knobs of attention and positions mean nothing to a Mixer.
 * @param {Config} config @param {Map<string, Tensor>} tensors
 * @returns {Built}
 */
export function build(config, tensors) {
  const model = {
    ...config.model,
    attn_form: /** @type {const} */ ("mixing"),
    pos_embed: /** @type {const} */ ("none"),
  };
  return vit.build({ ...config, model }, tensors);
}
