// A new network: the parameters of a ViT by name, as vitlab/model initialises them with init "zero" (Xavier-uniform
// matrices, each branch of a block and the head at zero, so that the blocks start as the identity).

import { squaresOf } from "../net/vit.js";
import { generator } from "./random.js";

/** @import { Config } from "../net/config.js" */
/** @import { Tensor } from "../net/safetensors.js" */

/**
 * @param {Config} config @param {number} hidden width of the MLP @param {number} seed
 */
export function newTensors({ model, channels, classes }, hidden, seed) {
  const draw = generator(seed, "weights");
  /** @type {Map<string, Tensor>} */
  const tensors = new Map();
  /** @type {(name: string, shape: number[], value: () => number) => void} */
  const put = (name, shape, value) => {
    const length = shape.reduce((product, size) => product * size, 1);
    tensors.set(name, { shape, data: Float32Array.from({ length }, value) });
  };
  const zero = () => 0;
  const one = () => 1;
  const small = () => 0.02 * draw.normal();
  /** @type {(fans: number) => () => number} */
  const even = (fans) => () => Math.sqrt(6 / fans) * (2 * draw.uniform() - 1);
  /** @type {(name: string, inner: number, outs: number, value: () => number, bias?: boolean) => void} */
  const linear = (name, inner, outs, value, bias = true) => {
    put(`${name}.weight`, [outs, inner], value);
    if (bias) put(`${name}.bias`, [outs], zero);
  };
  /** @param {string} name */
  const norm = (name) => {
    if (model.norm === "rms") return;
    put(`${name}.weight`, [dim], one);
    put(`${name}.bias`, [dim], zero);
  };

  const dim = model.embed_dim;
  const patches = squaresOf(model).grid ** 2;
  const tokens = patches + (model.pool === "cls" ? 1 : 0);
  const patchLength = (model.patch_size + 2 * model.patch_overlap) ** 2 * channels;
  linear("patch_embed", patchLength, dim, even(patchLength + dim));
  if (model.pool === "cls") put("cls_token", [dim], small);
  if (model.pos_embed === "learned") put("pos_embed", [tokens, dim], small);
  for (let i = 0; i < model.depth; i++) block(`blocks.${i}`);
  norm("norm");
  linear("head.1", dim * (model.pool === "flatten" ? tokens : 1), classes.length, zero);
  return tensors;

  /** @param {string} name */
  function block(name) {
    const all = model.num_heads * (model.head_dim ?? dim / model.num_heads);
    norm(`${name}.norm1`);
    linear(`${name}.attn.qkv`, dim, 3 * all, even(dim + all), model.linear_bias);
    linear(`${name}.attn.proj`, all, dim, zero, model.linear_bias);
    if (model.attn_bias) put(`${name}.attn.bias`, [model.num_heads, tokens, tokens], zero);
    norm(`${name}.norm2`);
    linear(`${name}.mlp.fc1`, dim, hidden, even(dim + hidden), model.linear_bias);
    linear(`${name}.mlp.fc2`, hidden, dim, zero, model.linear_bias);
  }
}
