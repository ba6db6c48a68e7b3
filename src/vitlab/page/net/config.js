// config.json: what it contains, and whether this page can use it.

import { ModelError } from "./weights.js";

/** @import { Squares } from "./model.js" */
/**
 * The knobs that the page uses; their meaning: vitlab/config. attn_form "mixing" is only here (mixer.js).
 * @typedef {object} ModelKnobs
 * @property {string} arch
 * @property {number} image_size
 * @property {number | null} crop
 * @property {number} patch_size
 * @property {number} patch_overlap
 * @property {number} embed_dim
 * @property {number} depth
 * @property {number} num_heads
 * @property {number | null} head_dim
 * @property {"qkv" | "merged" | "none" | "mixing"} attn_form
 * @property {boolean} attn_bias
 * @property {boolean} linear_bias
 * @property {boolean} mlp_last_gelu
 * @property {"layer" | "rms"} norm
 * @property {"gelu" | "relu2"} act
 * @property {"cls" | "mean" | "flatten"} pool
 * @property {"learned" | "sincos" | "none"} pos_embed
 * @property {number[]} head_hidden
 * @property {number[]} cnn_channels
 *
 * @typedef {object} Config
 * @property {ModelKnobs} model
 * @property {1 | 3} channels
 * @property {string[]} classes
 * @property {{ image_size: number, mean: number[], std: number[], crop: number | null }} preprocess
 * @property {"mnist-drawing" | "mnist-drawing-dark" | null} drawing  how drawings are normalised; null: this network does not read drawings
 * @property {number} [background]  the grey that transparency became in its training images, 0 (black) to 255
 * @property {string} name
 * @property {string | null} [data]
 * @property {number | null} [params]
 * @property {number | null} [test_top1]
 * @property {[number, number] | null} [test_top1_interval]
 * @property {number | null} [test_images]
 * @property {number | null} [train_seconds]
 * @property {[string, string][]} [metrics]  further numbers about test images: label and text
 * @property {number} [label_smoothing]  share of each label that was spread over all classes in training
 * @property {string | null} [sha256]
 * @property {string} [corrected]  the name of the network that this one was before a visitor corrected it
 * @property {{ threshold: number, sha256: string } | null} [novelty]  of novelty.safetensors, if the run has one
 */

const FORMAT = 1;
const MOST_PIXELS = 512; // a side
const DIGEST = /^[0-9a-f]{64}$/;
const POSITIVE = ["image_size", "patch_size", "embed_dim", "depth", "num_heads"];
const FLAGS = ["attn_bias", "linear_bias", "mlp_last_gelu"];
const CHOICES = {
  attn_form: ["qkv", "merged", "none"],
  norm: ["layer", "rms"],
  act: ["gelu", "relu2"],
  pool: ["cls", "mean", "flatten"],
  pos_embed: ["learned", "sincos", "none"],
};
const FACTS = ["params", "test_top1", "test_images", "train_seconds"];

/**
 * ModelError unless this is a config.json in the format that this page reads, with a model in it.
 * @param {any} config
 */
export function checkFormat(config) {
  if (config?.format === undefined && config?.optim !== undefined) {
    throw new ModelError(
      "This config.json comes from a run folder; use the one that `vitlab export RUN --to web` writes.",
    );
  }
  if (config?.format !== FORMAT) {
    throw new ModelError(`config.json has format ${JSON.stringify(config?.format)}; this page reads format ${FORMAT}.`);
  }
  must(config.model !== null && typeof config.model === "object", "model is missing");
}

/**
 * ModelError, in one sentence, if a value is missing or not allowed. What only one kind of network needs is checked in
 * its own module.
 * @param {any} config
 */
export function checkConfig({ model, classes, channels, ...facts }) {
  must(channels === 1 || channels === 3, "channels must be 1 or 3");
  const names = Array.isArray(classes) && classes.length > 0 && classes.every((name) => typeof name === "string");
  must(names, "classes must be a list of names");
  checkFacts(facts);
  for (const name of POSITIVE) {
    must(isCount(model[name]), `${name} must be a whole number above 0`);
  }
  for (const name of ["head_dim", "crop"]) {
    must(model[name] === null || isCount(model[name]), `${name} must be a whole number above 0 or null`);
  }
  const overlap = model.patch_overlap;
  must(overlap === 0 || isCount(overlap), "patch_overlap must be a whole number");
  must(overlap <= model.patch_size, "patch_overlap must be at most patch_size");
  for (const name of FLAGS) {
    must(typeof model[name] === "boolean", `${name} must be true or false`);
  }
  for (const [name, allowed] of Object.entries(CHOICES)) {
    must(allowed.includes(model[name]), `${name} must be one of ${allowed.join(", ")}`);
  }
  for (const name of ["head_hidden", "cnn_channels"]) {
    must(Array.isArray(model[name]) && model[name].every(isCount), `${name} must be a list of whole numbers above 0`);
  }
  if (model.image_size > MOST_PIXELS) {
    throw new ModelError(`The model is too large for this page, which reads images up to ${MOST_PIXELS} pixels wide.`);
  }
  must(model.crop === null || model.crop <= model.image_size, "crop is larger than image_size");
}

/**
 * The facts about the network that the page shows but does not compute with.
 * @param {any} facts
 */
function checkFacts(facts) {
  must(typeof facts.name === "string" && facts.name !== "", "name must be text");
  must(typeof (facts.data ?? "") === "string", "data must be text or null");
  must(
    [null, "mnist-drawing", "mnist-drawing-dark"].includes(facts.drawing),
    'drawing must be "mnist-drawing", "mnist-drawing-dark" or null',
  );
  const background = facts.background ?? 0;
  must(Number.isInteger(background) && background >= 0 && background <= 255, "background must be 0 to 255");
  for (const name of FACTS) {
    must(Number.isFinite(facts[name] ?? 0), `${name} must be a number or null`);
  }
  const interval = facts.test_top1_interval ?? [0, 1];
  const pair = Array.isArray(interval) && interval.length === 2 && interval.every(Number.isFinite);
  must(pair, "test_top1_interval must be two numbers or null");
  const metrics = facts.metrics ?? [];
  const texts = Array.isArray(metrics) && metrics.flat().every((text) => typeof text === "string");
  must(texts, "metrics must be pairs of a label and a text");
  const { threshold, sha256 } = facts.novelty ?? { threshold: 0, sha256: null };
  must(Number.isFinite(threshold), "novelty.threshold must be a number");
  must(sha256 === null || DIGEST.test(sha256), "novelty.sha256 must be 64 hex digits");
  const digest = facts.sha256 ?? null;
  must(digest === null || (typeof digest === "string" && DIGEST.test(digest)), "sha256 must be 64 hex digits or null");
}

/**
 * ModelError unless `preprocess` produces the input that this network expects.
 * @param {any} config @param {Squares} squares
 */
export function checkPreprocess({ preprocess, channels, model }, { size }) {
  must(preprocess !== null && typeof preprocess === "object", "preprocess is missing");
  must(preprocess.image_size === model.image_size, "preprocess.image_size is not the model's");
  const uncropped = preprocess.crop === null && size === model.image_size;
  must(uncropped || preprocess.crop === size, "preprocess.crop is not the side of the model's input");
  for (const name of ["mean", "std"]) {
    const values = preprocess[name];
    const finite = Array.isArray(values) && values.length === channels && values.every(Number.isFinite);
    must(finite && !(name === "std" && values.includes(0)), `preprocess.${name} must be a number for each channel`);
  }
}

/** @param {unknown} value */
function isCount(value) {
  return Number.isSafeInteger(value) && Number(value) > 0;
}

/**
 * @param {boolean} holds @param {string} sentence
 */
export function must(holds, sentence) {
  if (!holds) {
    throw new ModelError(`config.json is damaged: ${sentence}.`);
  }
}
