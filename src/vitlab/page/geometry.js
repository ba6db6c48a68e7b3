// The arithmetic of config/model.py that decides where the patches lie, and checks of what a config.json says.

import { ModelError } from "./weights.js";

const MOST_PIXELS = 512; // a side; MOST_TOKENS keeps attention's N x N weights within a browser's memory
const MOST_TOKENS = 1024;

/** Sides in pixels: {inner, margin, input, grid, patch}, as ModelConfig's properties of the same meaning. */
export function geometry(model) {
  const inner = model.crop ?? model.image_size;
  const isVit = model.arch === "vit";
  const room = Math.floor((model.image_size - inner) / 2);
  const margin = isVit && model.crop !== null ? Math.min(model.patch_overlap, room) : 0;
  const patch = model.patch_size;
  return { inner, margin, input: inner + 2 * margin, grid: Math.floor(inner / patch), patch };
}

/** Where the squares lie that the page hides: the ViT's patches (look/attention.py's patch_squares); of a CNN, which
 * has none, about 7 x 7 squares in the middle. */
export function squaresOf(model) {
  const { input, margin, grid, patch } = geometry(model);
  if (model.arch === "vit") {
    return { grid, side: patch, margin, size: input };
  }
  const side = Math.max(1, Math.round(input / 7));
  const count = Math.floor(input / side);
  return { grid: count, side, margin: Math.floor((input - count * side) / 2), size: input };
}

const DIGEST = /^[0-9a-f]{64}$/;
const POSITIVE = ["image_size", "patch_size", "embed_dim", "depth", "num_heads"];
const CHOICES = {
  arch: ["vit", "cnn"],
  attn_form: ["qkv", "merged", "none"],
  norm: ["layer", "rms"],
  act: ["gelu", "relu2"],
  pool: ["cls", "mean", "flatten"],
  pos_embed: ["learned", "sincos", "none"],
};

/** ModelError, one sentence, unless this is a config.json of the format that this page reads. */
export function checkConfig(config) {
  const { model, preprocess, classes, channels } = config ?? {};
  if (config?.format === undefined && config?.optim !== undefined) {
    throw new ModelError("This config.json is a run's own; take the one that `vitlab export RUN --to web` writes.");
  }
  if (config?.format !== 1) {
    throw new ModelError(`config.json has format ${JSON.stringify(config?.format)}; this page reads format 1.`);
  }
  must(model !== null && typeof model === "object", "model is missing");
  must(isWhole(channels) && (channels === 1 || channels === 3), "channels must be 1 or 3");
  const names = Array.isArray(classes) && classes.length > 0 && classes.every((name) => typeof name === "string");
  must(names, "classes is no list of names");
  checkFacts(config);
  for (const name of POSITIVE) {
    must(isWhole(model[name]) && model[name] > 0, `${name} must be a whole number above 0`);
  }
  for (const name of ["head_dim", "crop"]) {
    must(model[name] === null || (isWhole(model[name]) && model[name] > 0), `${name} must be a whole number or null`);
  }
  const overlap = model.patch_overlap;
  must(isWhole(overlap) && overlap >= 0 && overlap <= model.patch_size, "patch_overlap must be from 0 to patch_size");
  for (const name of ["attn_bias", "linear_bias", "mlp_last_gelu"]) {
    must(typeof model[name] === "boolean", `${name} must be true or false`);
  }
  for (const [name, allowed] of Object.entries(CHOICES)) {
    must(allowed.includes(model[name]), `${name} must be one of ${allowed.join(", ")}`);
  }
  for (const name of ["head_hidden", "cnn_channels"]) {
    must(Array.isArray(model[name]) && model[name].every((n) => isWhole(n) && n > 0), `${name} must be whole numbers`);
  }
  if (model.image_size > MOST_PIXELS) {
    throw new ModelError(`The model is too large for this page, which reads images up to ${MOST_PIXELS} pixels wide.`);
  }
  must(model.crop === null || model.crop <= model.image_size, "crop is larger than image_size");
  must(model.arch === "cnn" || model.patch_size <= geometry(model).inner, "patch_size is larger than the image");
  if (model.arch === "vit" && geometry(model).grid ** 2 >= MOST_TOKENS) {
    throw new ModelError(`The model is too large for this page, which reads fewer than ${MOST_TOKENS} patches.`);
  }
  checkPreprocess(preprocess, channels, model);
}

const FACTS = ["params", "test_top1", "test_images", "train_seconds"];

/** What the page says about the network, and computes nothing from. */
function checkFacts(config) {
  must(typeof config.name === "string" && config.name !== "", "name must be a text");
  must(typeof (config.data ?? "") === "string", "data must be a text or null");
  must([null, "mnist-drawing"].includes(config.drawing), 'drawing must be "mnist-drawing" or null');
  for (const name of FACTS) {
    must(Number.isFinite(config[name] ?? 0), `${name} must be a number or null`);
  }
  const interval = config.test_top1_interval ?? [0, 1];
  const good = Array.isArray(interval) && interval.length === 2 && interval.every(Number.isFinite);
  must(good, "test_top1_interval must be two numbers or null");
  const digest = config.sha256 ?? null;
  must(digest === null || (typeof digest === "string" && DIGEST.test(digest)), "sha256 must be 64 hex digits or null");
}

function checkPreprocess(preprocess, channels, model) {
  must(preprocess !== null && typeof preprocess === "object", "preprocess is missing");
  const uncropped = preprocess.crop === null && geometry(model).input === model.image_size;
  must(preprocess.image_size === model.image_size, "preprocess.image_size is not the model's");
  must(uncropped || preprocess.crop === geometry(model).input, "preprocess.crop is not the side of the model's input");
  for (const name of ["mean", "std"]) {
    const values = preprocess[name];
    const good = Array.isArray(values) && values.length === channels && values.every(Number.isFinite);
    must(good && !(name === "std" && values.includes(0)), `preprocess.${name} must be a number for each channel`);
  }
}

function isWhole(value) {
  return Number.isSafeInteger(value);
}

function must(holds, sentence) {
  if (!holds) {
    throw new ModelError(`config.json is damaged: ${sentence}.`);
  }
}
