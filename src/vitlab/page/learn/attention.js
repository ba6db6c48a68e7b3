// Attention of a whole batch, forwards and backwards: each head of each image is a few small products.
// Letters: N tokens, D embed_dim, h heads, d width of a head. `mixed` holds q, k and v side by side (merged: only q; then
// keys and values are the tokens themselves, and one head is as wide as they are).

import { even, four, multiply, pack, packTransposed, room } from "./products.js";

/** @import { Attention } from "../net/block.js" */

/**
 * What attention reads and keeps: x [B N, D] and mixed [B N, 3 h d] or [B N, D] come in; weights [B, h, N, N] and carried
 * [B N, h d] go out.
 * @typedef {{ x: Float32Array, mixed: Float32Array, weights: Float32Array, carried: Float32Array }} Kept
 */

const scratch = { shares: new Float32Array(0) };

/**
 * @param {number} length
 */
function sharesOf(length) {
  if (scratch.shares.length < length) scratch.shares = new Float32Array(length);
  return scratch.shares;
}

/**
 * @param {Kept} kept @param {Attention} attention @param {number} images @param {number} tokens @param {number} dim
 */
export function attentionForward({ x, mixed, weights, carried }, attention, images, tokens, dim) {
  const { heads, width, merged, mix, bias } = attention;
  const all = heads * width;
  const [tall, wide] = [four(tokens), four(width)];
  const left = room("left", tall * Math.max(width, tokens));
  const right = room("right", Math.max(tall * width, wide * tokens));
  const out = room("out", tall * Math.max(tall, wide));
  const [from, step] = merged ? [x, dim] : [mixed, mix.outs];
  const scale = width ** -0.5;
  for (let image = 0; image < images; image++) {
    for (let head = 0; head < heads; head++) {
      const q = image * tokens * mix.outs + head * width;
      const k = merged ? image * tokens * dim : q + all;
      const v = merged ? k : q + 2 * all;
      const first = (image * heads + head) * tokens * tokens;
      pack(mixed, q, mix.outs, tokens, width, left, even(tokens), scale);
      pack(from, k, step, tokens, width, right, tall, 1);
      multiply(left, right, out, even(tokens), tall, width);
      softmaxRows(out, tall, bias, head * tokens * tokens, weights, first, tokens);
      pack(weights, first, tokens, tokens, tokens, left, even(tokens), 1);
      packTransposed(from, v, step, tokens, width, right, wide);
      multiply(left, right, out, even(tokens), wide, tokens);
      unpack(out, wide, carried, image * tokens * all + head * width, all, tokens, width, 1);
    }
  }
}

/**
 * Softmax of each row of scores plus bias.
 * @param {Float64Array} scores @param {number} stride @param {Float32Array | null} bias @param {number} biasFirst
 * @param {Float32Array} weights @param {number} first @param {number} tokens
 */
function softmaxRows(scores, stride, bias, biasFirst, weights, first, tokens) {
  for (let r = 0; r < tokens; r++) {
    const row = r * stride;
    const at = first + r * tokens;
    let largest = -Infinity;
    for (let i = 0; i < tokens; i++) {
      if (bias !== null) scores[row + i] += bias[biasFirst + r * tokens + i];
      if (scores[row + i] > largest) largest = scores[row + i];
    }
    let sum = 0;
    for (let i = 0; i < tokens; i++) {
      const e = Math.exp(scores[row + i] - largest);
      scores[row + i] = e;
      sum += e;
    }
    for (let i = 0; i < tokens; i++) weights[at + i] = scores[row + i] / sum;
  }
}

/**
 * The gradient of `carried` -> of `mixed`, which is written, of x (merged only), which is added to dx, and of the bias,
 * added to dbias.
 * @param {Kept} kept @param {Attention} attention @param {Float32Array} dcarried @param {Float32Array} dmixed
 * @param {Float32Array} dx @param {Float32Array | null} dbias
 * @param {number} images @param {number} tokens @param {number} dim
 */
export function attentionBackward({ x, mixed, weights }, attention, dcarried, dmixed, dx, dbias, images, tokens, dim) {
  const { heads, width, merged, mix } = attention;
  const all = heads * width;
  const [tall, wide] = [four(tokens), four(width)];
  const left = room("left", tall * Math.max(width, tokens));
  const right = room("right", Math.max(tall * width, wide * tokens));
  const out = room("out", tall * Math.max(tall, wide));
  const shares = sharesOf(tokens * tokens);
  const [from, step] = merged ? [x, dim] : [mixed, mix.outs];
  const [to, toStep] = merged ? [dx, dim] : [dmixed, mix.outs];
  const scale = width ** -0.5;
  for (let image = 0; image < images; image++) {
    for (let head = 0; head < heads; head++) {
      const q = image * tokens * mix.outs + head * width;
      const k = merged ? image * tokens * dim : q + all;
      const v = merged ? k : q + 2 * all;
      const first = (image * heads + head) * tokens * tokens;
      const c = image * tokens * all + head * width;
      // dweights = dcarried v^T, then through softmax to the scores
      pack(dcarried, c, all, tokens, width, left, even(tokens), 1);
      pack(from, v, step, tokens, width, right, tall, 1);
      multiply(left, right, out, even(tokens), tall, width);
      softmaxBackward(weights, first, out, tall, shares, dbias, head * tokens * tokens, tokens);
      // dv = weights^T dcarried
      packTransposed(weights, first, tokens, tokens, tokens, left, even(tokens));
      packTransposed(dcarried, c, all, tokens, width, right, wide);
      multiply(left, right, out, even(tokens), wide, tokens);
      (merged ? unpackAdd : unpack)(out, wide, to, v, toStep, tokens, width, 1);
      // dq = scale dscores k
      pack(shares, 0, tokens, tokens, tokens, left, even(tokens), 1);
      packTransposed(from, k, step, tokens, width, right, wide);
      multiply(left, right, out, even(tokens), wide, tokens);
      unpack(out, wide, dmixed, q, mix.outs, tokens, width, scale);
      // dk = scale dscores^T q
      packTransposed(shares, 0, tokens, tokens, tokens, left, even(tokens));
      packTransposed(mixed, q, mix.outs, tokens, width, right, wide);
      multiply(left, right, out, even(tokens), wide, tokens);
      (merged ? unpackAdd : unpack)(out, wide, to, k, toStep, tokens, width, scale);
    }
  }
}

/**
 * dscores = weights (dweights - the mean of dweights under the weights), row by row; also added to dbias.
 * @param {Float32Array} weights @param {number} first @param {Float64Array} dweights @param {number} stride
 * @param {Float32Array} shares @param {Float32Array | null} dbias @param {number} biasFirst @param {number} tokens
 */
function softmaxBackward(weights, first, dweights, stride, shares, dbias, biasFirst, tokens) {
  for (let r = 0; r < tokens; r++) {
    const at = first + r * tokens;
    const row = r * stride;
    let mean = 0;
    for (let i = 0; i < tokens; i++) mean += weights[at + i] * dweights[row + i];
    for (let i = 0; i < tokens; i++) {
      const d = weights[at + i] * (dweights[row + i] - mean);
      shares[r * tokens + i] = d;
      if (dbias !== null) dbias[biasFirst + r * tokens + i] += d;
    }
  }
}

/**
 * @param {Float64Array} out @param {number} wide @param {Float32Array} to @param {number} start @param {number} stride
 * @param {number} rows @param {number} width @param {number} scale
 */
function unpack(out, wide, to, start, stride, rows, width, scale) {
  for (let r = 0; r < rows; r++) {
    for (let i = 0; i < width; i++) to[start + r * stride + i] = scale * out[r * wide + i];
  }
}

/**
 * @param {Float64Array} out @param {number} wide @param {Float32Array} to @param {number} start @param {number} stride
 * @param {number} rows @param {number} width @param {number} scale
 */
function unpackAdd(out, wide, to, start, stride, rows, width, scale) {
  for (let r = 0; r < rows; r++) {
    for (let i = 0; i < width; i++) to[start + r * stride + i] += scale * out[r * wide + i];
  }
}
