// The network that a visitor asks for: from a few knobs to a config.json.

import { newTensors } from "./start.js";

/** @import { Config, ModelKnobs } from "../net/config.js" */
/**
 * What the knobs say.
 * @typedef {{ patch: number, width: number, depth: number, heads: number, lr: number, batch: number, passes: number, seed: number }} Knobs
 *
 * The images to learn from: side and channels, how drawings become such images, mean and deviation of each channel.
 * @typedef {object} Kind
 * @property {string} data
 * @property {string[]} classes
 * @property {number} side
 * @property {1 | 3} channels
 * @property {Config["drawing"]} drawing
 * @property {number} background
 * @property {number[]} mean
 * @property {number[]} std
 */

const DRAWN = 20; // pixels of the longest side of a normalised drawing: outside there is almost nothing to see
const OVERLAP = 2;
const MLP = 2; // times the width
export const SMOOTHING = 0.1; // of the labels

/**
 * The side of the square that is cut into patches.
 * @param {Pick<Kind, "side" | "drawing">} kind
 */
export const innerSide = ({ side, drawing }) => (drawing !== null && side > DRAWN ? DRAWN : side);

/**
 * config.json of a new network.
 * @param {Kind} kind @param {Knobs} knobs @param {string} name
 * @returns {Config & { format: number, arch: string }}
 */
export function design(kind, knobs, name) {
  const inner = innerSide(kind);
  const crop = inner === kind.side ? null : inner;
  const overlap = crop === null ? 0 : Math.min(OVERLAP, knobs.patch);
  /** @type {ModelKnobs} */
  const model = {
    arch: "vit",
    image_size: kind.side,
    crop,
    patch_size: knobs.patch,
    patch_overlap: overlap,
    embed_dim: knobs.width,
    depth: knobs.depth,
    num_heads: knobs.heads,
    head_dim: null,
    attn_form: "qkv",
    attn_bias: false,
    linear_bias: true,
    mlp_last_gelu: false,
    norm: "layer",
    act: "gelu",
    pool: "flatten",
    pos_embed: "learned",
    head_hidden: [],
    cnn_channels: [32],
  };
  const size = crop === null ? null : crop + 2 * Math.min(overlap, Math.floor((kind.side - crop) / 2));
  const { channels, classes, drawing, background, data, mean, std } = kind;
  return {
    format: 1,
    arch: "vit",
    name,
    model,
    channels,
    classes,
    preprocess: { image_size: kind.side, mean, std, crop: size },
    drawing,
    background,
    data,
    label_smoothing: SMOOTHING,
    sha256: null,
    novelty: null,
  };
}

/**
 * Its parameters before training.
 * @param {Config} config @param {number} seed
 */
export const startOf = (config, seed) => newTensors(config, MLP * config.model.embed_dim, seed);
