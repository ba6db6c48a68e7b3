// From a config.json and the bytes of a model.safetensors to a network that computes.

import * as cnn from "./cnn.js";
import { checkConfig, checkFormat, checkPreprocess } from "./config.js";
import * as mixer from "./mixer.js";
import { openNovelty } from "./novelty.js";
import { parseSafetensors } from "./safetensors.js";
import * as vit from "./vit.js";
import { ModelError } from "./weights.js";

/** @import { Config } from "./config.js" */
/** @import { Bounds } from "./novelty.js" */
/** @import { Opened } from "./token.js" */
/**
 * Where the patches lie in an input of `size` pixels a side: grid x grid squares of `side` pixels, from `margin` on.
 * @typedef {{ grid: number, side: number, margin: number, size: number }} Squares
 *
 * Attention weights of one layer [h, N, N]: row i is what token i takes from each token. The class token comes first.
 * @typedef {{ heads: number, tokens: number, weights: Float32Array }} Layer
 *
 * Everything the last run computed; attention and lens (probabilities [K] after each block) are [] where there are none.
 * @typedef {object} Trace
 * @property {Float32Array} logits
 * @property {Float32Array} probabilities
 * @property {Layer[]} attention
 * @property {Float32Array[]} lens
 *
 * What there is to see inside: patches that become tokens, and attention between them or dense layers that mix them.
 * @typedef {{ tokens: boolean, attention: boolean, mixing: boolean }} Views
 *
 * run: input [C, S, S], preprocessed -> logits [K], valid until the next run; allocates nothing. cuts: names of what is
 * switched off (cuts.js); the property of that name lists all that can be.
 * trace: of the last run; without attention and lens unless `inside`.
 * traits: of the last run and its input, as novelty.js needs them; only before its trace, which uses the same space.
 * open: what the last run did to one patch, in one block and head, from 0; null if there is no such thing.
 * @typedef {object} Built
 * @property {(input: Float32Array, cuts?: string[]) => Float32Array} run
 * @property {(inside?: boolean) => Trace} trace
 * @property {(input: Float32Array) => Float64Array} traits
 * @property {(patch: number, block: number, head: number) => Opened | null} open
 * @property {string[]} cuts
 * @property {Views} views
 *
 * bounds: null if it is not known what the network was trained on.
 * shapes: of every learned tensor, by name.
 * native: the side of the images that it was trained on, before any resizing.
 * @typedef {Built & { config: Config, squares: Squares, shapes: Record<string, number[]>, native: number,
 *   bounds: Bounds | null }} Network
 */

/**
 * The module for a kind of network. Only this function asks which kind a network is.
 * @param {unknown} arch
 */
function kindOf(arch) {
  switch (arch) {
    case "vit":
      return vit;
    case "cnn":
      return cnn;
    case "mixer":
      return mixer;
    default:
      throw new ModelError(
        `This page cannot run a network of kind ${JSON.stringify(arch)}; it knows vit, cnn and mixer.`,
      );
  }
}

/**
 * The network of these files; `novelty` may be missing. ModelError or FileError, in one sentence, if they are damaged or do not fit.
 * @param {any} config @param {ArrayBuffer} weights @param {ArrayBuffer | null} novelty
 * @returns {Promise<Network>}
 */
export async function openModel(config, weights, novelty = null) {
  checkFormat(config);
  const kind = kindOf(config.model.arch);
  checkConfig(config);
  kind.checkKnobs(config.model);
  const squares = kind.squaresOf(config.model);
  checkPreprocess(config, squares);
  await checkDigest(weights, config.sha256, "weights");
  const tensors = parseSafetensors(weights);
  const shapes = Object.fromEntries([...tensors].map(([name, { shape }]) => [name, shape]));
  const built = kind.build(config, tensors);
  const nothing = new Float32Array(config.channels * squares.size ** 2);
  const bounds = novelty && config.novelty ? await openBounds(config, novelty, built.traits(nothing).length) : null;
  return { ...built, squares, shapes, native: config.model.image_size, config, bounds };
}

/**
 * @param {Config} config @param {ArrayBuffer} novelty @param {number} width
 */
async function openBounds(config, novelty, width) {
  const facts = /** @type {NonNullable<Config["novelty"]>} */ (config.novelty);
  await checkDigest(novelty, facts.sha256, "training distances");
  return openNovelty(novelty, facts, width);
}

/**
 * Browsers compute digests only on secure pages (https, or this machine); elsewhere this check is skipped.
 * @param {ArrayBuffer} data @param {string | null | undefined} expected @param {string} what
 */
async function checkDigest(data, expected, what) {
  if (typeof expected !== "string" || self.crypto?.subtle === undefined) {
    return;
  }
  const digest = new Uint8Array(await self.crypto.subtle.digest("SHA-256", data));
  const hex = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (hex !== expected) {
    throw new ModelError(`The ${what} are damaged or belong to another model: config.json names a different SHA-256.`);
  }
}
