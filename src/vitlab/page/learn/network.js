// A ViT that learns: the network of net/vit.js for a whole batch, with what the backward pass needs kept.
// Letters: B images, N tokens, D embed_dim, K classes, P numbers of a patch.

import { geluWithSlope } from "../net/gelu.js";
import { planOf, takeWeights } from "../net/vit.js";
import { ModelError, shelf } from "../net/weights.js";
import { attentionBackward, attentionForward } from "./attention.js";
import { normBackward, normForward, poolBackward, poolForward, relu2WithSlope, scaleBy } from "./layers.js";
import { backToInput, backToWeight, forward } from "./products.js";

/** @import { Block, Norm } from "../net/block.js" */
/** @import { Config, ModelKnobs } from "../net/config.js" */
/** @import { Tensor } from "../net/safetensors.js" */
/** @import { Plan, Weights } from "../net/vit.js" */
/**
 * All parameters one after the other, and the same by name. The tensors are views: what trains `flat` trains the network
 * that reads, too.
 * @typedef {{ flat: Float32Array, tensors: Map<string, Tensor> }} Parameters
 *
 * @typedef {ReturnType<typeof openLearner>} Learner
 * @typedef {ReturnType<typeof blockSpace>} BlockSpace
 */

/**
 * Copies of tensors, in one array.
 * @param {Map<string, Tensor>} tensors
 * @returns {Parameters}
 */
export function inOneArray(tensors) {
  let length = 0;
  for (const { data } of tensors.values()) length += data.length;
  const flat = new Float32Array(length);
  const views = new Map();
  let at = 0;
  for (const [name, { shape, data }] of tensors) {
    const view = flat.subarray(at, at + data.length);
    view.set(data);
    views.set(name, { shape, data: view });
    at += data.length;
  }
  return { flat, tensors: views };
}

/**
 * The same names and shapes, filled with zeros: for gradients.
 * @param {Parameters} parameters
 * @returns {Parameters}
 */
function zerosLike({ tensors }) {
  const zeros = inOneArray(tensors);
  zeros.flat.fill(0);
  return zeros;
}

/**
 * A network of these parameters that can be trained with up to `most` images at a time. ModelError if they do not fit.
 * @param {Config} config @param {Parameters} parameters @param {number} most
 */
export function openLearner(config, parameters, most) {
  const { model, channels } = config;
  if (model.arch !== "vit") throw new ModelError("This page can train only Vision Transformers, not a CNN.");
  const plan = planOf(config);
  const gradients = zerosLike(parameters);
  const weights = takeWeights(shelf(parameters.tensors), config, plan);
  const slopes = takeWeights(shelf(gradients.tensors), config, plan); // the gradients, in the shape of the weights
  const { tokens } = plan;
  const dim = model.embed_dim;
  const side = (model.crop ?? model.image_size) + 2 * marginOf(model);
  const inputLength = channels * side * side;
  const space = spaceFor(model, plan, weights, most);

  /**
   * inputs [B, C, S, S], preprocessed -> logits [B, K], valid until the next call.
   * @param {Float32Array} inputs @param {number} images
   */
  function run(inputs, images) {
    embed(inputs, inputLength, weights, plan, space.states[0], space.patches, space.embedded, images);
    weights.blocks.forEach((block, i) => {
      blockForward(space.states[i], block, model, tokens, images, space.blocks[i], space.states[i + 1]);
    });
    const [x, rows] = [space.states[model.depth], images * tokens];
    const { gain, offset } = partsOf(weights.norm);
    normForward(x, gain, offset, space.normed, space.means, space.scales, rows, dim);
    poolForward(space.normed, model.pool, space.pooled, images, tokens, dim);
    let y = space.pooled;
    weights.head.forEach((layer, i) => {
      const { out, active, slope } = space.head[i];
      forward(y, layer.weight, layer.bias, out, images, layer.inner, layer.outs);
      if (i + 1 === weights.head.length) return;
      geluWithSlope(out, active, slope, images * layer.outs);
      y = active;
    });
    return space.head[space.head.length - 1].out;
  }

  /**
   * From the gradient of the last run's logits [B, K] to `gradients`, which it replaces. headOnly: only those of the head.
   * @param {Float32Array} dlogits @param {number} images
   */
  function back(dlogits, images, headOnly = false) {
    gradients.flat.fill(0);
    const rows = images * tokens;
    let dy = dlogits;
    for (let i = weights.head.length - 1; i >= 0; i--) {
      const [layer, slope] = [weights.head[i], slopes.head[i]];
      const x = i === 0 ? space.pooled : space.head[i - 1].active;
      backToWeight(dy, x, slope.weight, slope.bias, images, layer.inner, layer.outs);
      if (i === 0 && headOnly) return;
      const dx = i === 0 ? space.dpooled : space.head[i - 1].dout;
      backToInput(dy, layer.weight, dx, images, layer.inner, layer.outs);
      if (i > 0) scaleBy(dx, space.head[i - 1].slope, images * layer.inner);
      dy = dx;
    }
    poolBackward(space.dpooled, model.pool, space.dnormed, images, tokens, dim);
    const { dx } = space;
    dx.fill(0, 0, rows * dim);
    const [norm, dnorm] = [partsOf(weights.norm), partsOf(slopes.norm)];
    const x = space.states[model.depth];
    normBackward(x, space.dnormed, norm.gain, dnorm.gain, dnorm.offset, dx, space.means, space.scales, rows, dim);
    for (let i = model.depth - 1; i >= 0; i--) {
      blockBackward(
        space.states[i],
        weights.blocks[i],
        slopes.blocks[i],
        model,
        tokens,
        images,
        space.blocks[i],
        space,
      );
    }
    embedBackward(dx, weights, slopes, plan, model, space.patches, space.dembedded, images);
  }

  return { config, parameters, gradients, run, back, inputLength, most };
}

/** @param {ModelKnobs} model */
function marginOf(model) {
  if (model.crop === null) return 0;
  return Math.min(model.patch_overlap, Math.floor((model.image_size - model.crop) / 2));
}

/**
 * @param {Norm} norm
 * @returns {{ gain: Float32Array | null, offset: Float32Array | null }}
 */
const partsOf = (norm) => norm ?? NO_PARTS;
const NO_PARTS = { gain: null, offset: null };

/**
 * @param {ModelKnobs} model @param {Plan} plan @param {Weights} weights @param {number} most
 */
function spaceFor(model, plan, weights, most) {
  const dim = model.embed_dim;
  const rows = most * plan.tokens;
  const floats = (/** @type {number} */ length) => new Float32Array(length);
  const inner = Math.max(dim, ...weights.blocks.map(({ attention }) => attention?.mix.outs ?? 0));
  const hidden = Math.max(...weights.blocks.map(({ fc1 }) => fc1.outs));
  return {
    patches: floats(most * plan.places.length),
    embedded: floats(rows * dim),
    dembedded: floats(rows * dim),
    states: Array.from({ length: model.depth + 1 }, () => floats(rows * dim)),
    blocks: weights.blocks.map((block) => blockSpace(block, rows, plan.tokens, dim)),
    normed: floats(rows * dim),
    means: floats(rows),
    scales: floats(rows),
    pooled: floats(most * weights.head[0].inner),
    head: weights.head.map(({ outs }) => ({
      out: floats(most * outs),
      active: floats(most * outs),
      slope: floats(most * outs),
      dout: floats(most * outs),
    })),
    dpooled: floats(most * weights.head[0].inner),
    dnormed: floats(rows * dim),
    dx: floats(rows * dim), // the gradient of the residual stream, from the last block back to the embedding
    dbranch: floats(rows * dim),
    dmore: floats(rows * dim),
    dmixed: floats(rows * inner),
    dcarried: floats(rows * inner),
    dhidden: floats(rows * hidden),
  };
}

/**
 * What one block keeps for its backward pass.
 * @param {Block} block @param {number} rows @param {number} tokens @param {number} dim
 */
function blockSpace({ attention, fc1 }, rows, tokens, dim) {
  const floats = (/** @type {number} */ length) => new Float32Array(length);
  const [inner, heads, mixed] = attention
    ? [attention.heads * attention.width, attention.heads, attention.mix.outs]
    : [0, 0, 0];
  return {
    normed1: floats(rows * dim),
    means1: floats(rows),
    scales1: floats(rows),
    mixed: floats(rows * mixed),
    weights: floats(rows * heads * tokens),
    carried: floats(rows * inner),
    middle: floats(rows * dim), // the residual stream after attention
    normed2: floats(rows * dim),
    means2: floats(rows),
    scales2: floats(rows),
    hidden: floats(rows * fc1.outs),
    active: floats(rows * fc1.outs),
    slope: floats(rows * fc1.outs),
    branch: floats(rows * dim),
    last: floats(rows * dim),
    lastSlope: floats(rows * dim),
  };
}

/**
 * x [B N, D] -> y [B N, D].
 * @param {Float32Array} x @param {Block} block @param {ModelKnobs} model @param {number} tokens @param {number} images
 * @param {BlockSpace} kept @param {Float32Array} y
 */
function blockForward(x, block, model, tokens, images, kept, y) {
  const dim = model.embed_dim;
  const rows = images * tokens;
  const count = rows * dim;
  const { attention, fc1, fc2 } = block;
  const { middle, branch } = kept;
  if (attention === null) {
    for (let i = 0; i < count; i++) middle[i] = x[i];
  } else {
    const { mix, proj } = attention;
    const { gain, offset } = partsOf(block.norm1);
    normForward(x, gain, offset, kept.normed1, kept.means1, kept.scales1, rows, dim);
    forward(kept.normed1, mix.weight, mix.bias, kept.mixed, rows, dim, mix.outs);
    attentionForward(keptBy(kept), attention, images, tokens, dim);
    forward(kept.carried, proj.weight, proj.bias, branch, rows, proj.inner, dim);
    for (let i = 0; i < count; i++) middle[i] = x[i] + branch[i];
  }
  const { gain, offset } = partsOf(block.norm2);
  normForward(middle, gain, offset, kept.normed2, kept.means2, kept.scales2, rows, dim);
  forward(kept.normed2, fc1.weight, fc1.bias, kept.hidden, rows, dim, fc1.outs);
  const activate = model.act === "relu2" ? relu2WithSlope : geluWithSlope;
  activate(kept.hidden, kept.active, kept.slope, rows * fc1.outs);
  forward(kept.active, fc2.weight, fc2.bias, branch, rows, fc2.inner, dim);
  let out = branch;
  if (model.mlp_last_gelu) {
    geluWithSlope(branch, kept.last, kept.lastSlope, count);
    out = kept.last;
  }
  for (let i = 0; i < count; i++) y[i] = middle[i] + out[i];
}

/** @param {BlockSpace} kept */
const keptBy = ({ normed1, mixed, weights, carried }) => ({ x: normed1, mixed, weights, carried });

/**
 * The gradient of the block's output, space.dx, becomes that of its input.
 * @param {Float32Array} x @param {Block} block @param {Block} slopes @param {ModelKnobs} model @param {number} tokens
 * @param {number} images @param {BlockSpace} kept @param {ReturnType<typeof spaceFor>} space
 */
function blockBackward(x, block, slopes, model, tokens, images, kept, space) {
  const dim = model.embed_dim;
  const rows = images * tokens;
  const count = rows * dim;
  const { dx, dbranch, dmore, dmixed, dcarried, dhidden } = space;
  const { attention, fc1, fc2 } = block;
  let dy = dx;
  if (model.mlp_last_gelu) {
    for (let i = 0; i < count; i++) dbranch[i] = dx[i] * kept.lastSlope[i];
    dy = dbranch;
  }
  backToWeight(dy, kept.active, slopes.fc2.weight, slopes.fc2.bias, rows, fc2.inner, dim);
  backToInput(dy, fc2.weight, dhidden, rows, fc2.inner, dim);
  scaleBy(dhidden, kept.slope, rows * fc1.outs);
  backToWeight(dhidden, kept.normed2, slopes.fc1.weight, slopes.fc1.bias, rows, dim, fc1.outs);
  backToInput(dhidden, fc1.weight, dmore, rows, dim, fc1.outs);
  throughNorm(kept.middle, dmore, block.norm2, slopes.norm2, dx, kept.means2, kept.scales2, rows, dim);
  if (attention === null || slopes.attention === null) return;
  const { mix, proj } = attention;
  const dattention = slopes.attention;
  backToWeight(dx, kept.carried, dattention.proj.weight, dattention.proj.bias, rows, proj.inner, dim);
  backToInput(dx, proj.weight, dcarried, rows, proj.inner, dim);
  dmore.fill(0, 0, count);
  attentionBackward(keptBy(kept), attention, dcarried, dmixed, dmore, dattention.bias, images, tokens, dim);
  backToWeight(dmixed, kept.normed1, dattention.mix.weight, dattention.mix.bias, rows, dim, mix.outs);
  backToInput(dmixed, mix.weight, dbranch, rows, dim, mix.outs);
  for (let i = 0; i < count; i++) dmore[i] += dbranch[i];
  throughNorm(x, dmore, block.norm1, slopes.norm1, dx, kept.means1, kept.scales1, rows, dim);
}

/**
 * @param {Float32Array} x @param {Float32Array} dy @param {Norm} norm @param {Norm} slopes @param {Float32Array} dx
 * @param {Float32Array} means @param {Float32Array} scales @param {number} rows @param {number} dim
 */
function throughNorm(x, dy, norm, slopes, dx, means, scales, rows, dim) {
  const { gain, offset } = partsOf(slopes);
  normBackward(x, dy, partsOf(norm).gain, gain, offset, dx, means, scales, rows, dim);
}

/**
 * Projected patches plus positions: inputs [B, C, S, S] -> state [B, N, D].
 * @param {Float32Array} inputs @param {number} inputLength @param {Weights} weights @param {Plan} plan
 * @param {Float32Array} state @param {Float32Array} patches @param {Float32Array} embedded @param {number} images
 */
function embed(inputs, inputLength, weights, plan, state, patches, embedded, images) {
  const { places, first, tokens } = plan;
  const { embedding, classToken, positions } = weights;
  for (let image = 0, at = 0; image < images; image++) {
    const start = image * inputLength;
    for (let i = 0; i < places.length; i++, at++) patches[at] = places[i] < 0 ? 0 : inputs[start + places[i]];
  }
  const dim = embedding.outs;
  const cells = tokens - first;
  forward(patches, embedding.weight, embedding.bias, embedded, images * cells, embedding.inner, dim);
  for (let image = 0; image < images; image++) {
    const to = image * tokens * dim;
    const from = image * cells * dim - first * dim;
    for (let i = 0; i < tokens * dim; i++) {
      const value = classToken !== null && i < dim ? classToken[i] : embedded[from + i];
      state[to + i] = value + positions[i];
    }
  }
}

/**
 * @param {Float32Array} dx @param {Weights} weights @param {Weights} slopes @param {Plan} plan @param {ModelKnobs} model
 * @param {Float32Array} patches @param {Float32Array} dembedded @param {number} images
 */
function embedBackward(dx, weights, slopes, plan, model, patches, dembedded, images) {
  const { first, tokens } = plan;
  const { inner, outs: dim } = weights.embedding;
  const learned = model.pos_embed === "learned";
  const cells = tokens - first;
  for (let image = 0; image < images; image++) {
    const from = image * tokens * dim;
    const to = image * cells * dim - first * dim;
    for (let i = 0; i < tokens * dim; i++) {
      const d = dx[from + i];
      if (learned) slopes.positions[i] += d;
      if (slopes.classToken !== null && i < dim) slopes.classToken[i] += d;
      else dembedded[to + i] = d;
    }
  }
  backToWeight(dembedded, patches, slopes.embedding.weight, slopes.embedding.bias, images * cells, inner, dim);
}
