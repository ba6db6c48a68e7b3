// The Vision Transformer, as vitlab/model defines it: patches -> tokens -> blocks -> one vector -> class scores.
// Letters: C channels, S side of the input, P numbers of a patch, N tokens, D embed_dim, h heads, K classes.

import { blockSpace, normalise, runBlock, takeBlock, takeNorm } from "./block.js";
import { must } from "./config.js";
import { cutsOf, openCuts } from "./cuts.js";
import { gelu } from "./gelu.js";
import { traitsOf } from "./novelty.js";
import { add, linear, softmax } from "./tensor.js";
import { openToken } from "./token.js";
import { ModelError, shelf as shelfOf } from "./weights.js";

/** @import { Block } from "./block.js" */
/** @import { Config, ModelKnobs } from "./config.js" */
/** @import { Cuts } from "./cuts.js" */
/** @import { Built, Squares } from "./model.js" */
/** @import { Tensor } from "./safetensors.js" */
/** @import { Shelf } from "./weights.js" */
/**
 * @typedef {ReturnType<typeof planOf>} Plan
 * @typedef {ReturnType<typeof takeWeights>} Weights
 * @typedef {ReturnType<typeof spaceFor>} VitSpace
 */

const MOST_TOKENS = 1024; // keeps attention's N x N weights within a browser's memory

/**
 * ModelError for values that do not fit together, or are too large for a page.
 * @param {ModelKnobs} model
 */
export function checkKnobs(model) {
  const { embed_dim: dim, num_heads: heads } = model;
  checkPatches(model);
  must(model.head_dim !== null || dim % heads === 0, `embed_dim ${dim} is not divisible by num_heads ${heads}`);
  must(model.attn_form !== "merged" || heads === 1, `attn_form merged has 1 head, not ${heads}`);
  must(model.pos_embed !== "sincos" || dim % 4 === 0, "pos_embed sincos needs an embed_dim divisible by 4");
}

/**
 * ModelError if there are no patches, or too many for a page.
 * @param {ModelKnobs} model
 */
export function checkPatches(model) {
  must(model.patch_size <= (model.crop ?? model.image_size), "patch_size is larger than the image");
  if (squaresOf(model).grid ** 2 >= MOST_TOKENS) {
    throw new ModelError(`The model is too large for this page, which reads fewer than ${MOST_TOKENS} patches.`);
  }
}

/**
 * Where the patches lie (ModelConfig's properties of the same meaning, and ViT.describe in vitlab/model).
 * @param {ModelKnobs} model
 * @returns {Squares}
 */
export function squaresOf(model) {
  const inner = model.crop ?? model.image_size;
  const room = Math.floor((model.image_size - inner) / 2);
  const margin = model.crop === null ? 0 : Math.min(model.patch_overlap, room);
  return { grid: Math.floor(inner / model.patch_size), side: model.patch_size, margin, size: inner + 2 * margin };
}

/**
 * ModelError if the weights do not fit.
 * @param {Config} config @param {Map<string, Tensor>} tensors
 * @returns {Built}
 */
export function build(config, tensors) {
  const { model } = config;
  const plan = planOf(config);
  const shelf = shelfOf(tensors);
  const weights = takeWeights(shelf, config, plan);
  shelf.finish();
  const space = spaceFor(model, plan, weights);
  const hasAttention = model.attn_form === "qkv" || model.attn_form === "merged";
  const views = { tokens: true, attention: hasAttention, mixing: model.attn_form === "mixing" };

  const whole = openCuts([], model);
  let last = whole; // what was switched off in the last run

  /** @param {Float32Array} input @param {string[]} cuts */
  function run(input, cuts = []) {
    const { states, attention } = space;
    last = cuts.length ? openCuts(cuts, model) : whole;
    embed(input, weights, plan, states[0], space.patches, last);
    weights.blocks.forEach((block, i) => {
      states[i + 1].set(states[i]);
      runBlock(states[i + 1], block, model, plan.tokens, attention[i], space.block, last.blocks[i]);
    });
    answer(space.last, space.logits);
    return space.logits;
  }

  /**
   * Norm, pooling and head on each of several token arrays [N, D] -> logits, one row [K] for each.
   * @param {Float32Array[]} states @param {Float32Array} logits
   */
  function answer(states, logits) {
    states.forEach((state, row) => {
      normalise(state, weights.norm, space.normed, plan.tokens, model.embed_dim);
      pool(space.normed, model, plan.tokens, space.pooled, row * weights.head[0].inner);
    });
    /** @type {Float32Array} */
    let x = space.pooled;
    weights.head.forEach((layer, i) => {
      const isLast = i === weights.head.length - 1;
      const y = isLast ? logits : space.head[i];
      linear(x, layer, y, states.length);
      if (!isLast) {
        gelu(y, states.length * layer.outs);
      }
      x = y;
    });
  }

  // The lens: probabilities as if the network ended after the embedding, after block 1, and so on (logit_lens in
  // vitlab/look).
  function trace(inside = true) {
    const logits = space.logits.slice();
    const probabilities = logits.slice();
    softmax(probabilities, 1, probabilities.length);
    if (!inside) {
      return { logits, probabilities, attention: [], lens: [] };
    }
    const early = new Float32Array(model.depth * logits.length);
    answer(space.early, early);
    softmax(early, model.depth, logits.length);
    return {
      logits,
      probabilities,
      attention: hasAttention
        ? space.attention.map((layer) => ({ heads: model.num_heads, tokens: plan.tokens, weights: layer.slice() }))
        : [],
      lens: [...rowsOf(early, logits.length), probabilities.slice()],
    };
  }

  /** @param {Float32Array} input */
  function traits(input) {
    const dim = model.embed_dim;
    const places = weights.head[0].inner / dim;
    const at = (/** @type {number} */ place, /** @type {number} */ i) => place * dim + i;
    return traitsOf(input, config, space.pooled, places, dim, at, space.logits);
  }

  /** @param {number} patch @param {number} block @param {number} head */
  const open = (patch, block, head) => openToken(model, plan, weights, space, last, patch, block, head);

  return { run, trace, traits, open, cuts: cutsOf(model), views };
}

/**
 * The number of tokens, and the place in the input of every number in every patch; -1 outside, where patches see 0.
 * @param {Config} config
 */
export function planOf(config) {
  const { model, channels } = config;
  const { grid, margin, size } = squaresOf(model);
  const reach = grid * model.patch_size + 2 * margin; // pixels at the right and bottom that fill no patch are cut off
  const side = model.patch_size + 2 * model.patch_overlap;
  const places = new Int32Array(grid * grid * side * side * channels);
  let at = 0;
  for (let patch = 0; patch < grid * grid; patch++) {
    const top = Math.floor(patch / grid) * model.patch_size + margin - model.patch_overlap;
    const left = (patch % grid) * model.patch_size + margin - model.patch_overlap;
    for (let y = top; y < top + side; y++) {
      for (let x = left; x < left + side; x++) {
        const inside = y >= 0 && y < reach && x >= 0 && x < reach;
        for (let c = 0; c < channels; c++) {
          places[at++] = inside ? (c * size + y) * size + x : -1; // in a patch: row, column, channel (patchify)
        }
      }
    }
  }
  const first = model.pool === "cls" ? 1 : 0; // the class token comes before the patches
  return { grid, first, tokens: first + grid * grid, places, patchLength: side * side * channels };
}

/**
 * @param {Shelf} shelf @param {Config} config @param {Plan} plan
 */
export function takeWeights(shelf, config, plan) {
  const { model, classes } = config;
  const dim = model.embed_dim;
  /** @type {Block[]} */
  const blocks = Array.from({ length: model.depth }, (_, i) => takeBlock(shelf, model, i, plan.tokens));
  return {
    embedding: shelf.takeLinear("patch_embed", plan.patchLength, dim),
    classToken: model.pool === "cls" ? shelf.take("cls_token", [dim]) : null,
    positions: takePositions(shelf, model, plan),
    blocks,
    norm: takeNorm(shelf, model, "norm"),
    head: takeHead(shelf, model, plan.tokens, classes.length),
  };
}

/**
 * Positions [N, D]. Fixed waves are in no file: half for the row, half for the column (Beyer et al. 2022).
 * @param {Shelf} shelf @param {ModelKnobs} model @param {Plan} plan
 */
function takePositions(shelf, model, plan) {
  const dim = model.embed_dim;
  if (model.pos_embed === "learned") {
    return shelf.take("pos_embed", [plan.tokens, dim]);
  }
  const positions = new Float32Array(plan.tokens * dim);
  const quarter = dim / 4;
  /** @type {(place: number, k: number) => number} */
  const wave = (place, k) => {
    const angle = place * 10000 ** -((k % quarter) / quarter);
    return k < quarter ? Math.sin(angle) : Math.cos(angle);
  };
  for (let patch = 0; model.pos_embed === "sincos" && patch < plan.grid ** 2; patch++) {
    for (let k = 0; k < 2 * quarter; k++) {
      const at = (plan.first + patch) * dim + k; // the class token has no position
      positions[at] = wave(Math.floor(patch / plan.grid), k);
      positions[at + 2 * quarter] = wave(patch % plan.grid, k);
    }
  }
  return positions;
}

/**
 * The head's Linears; in torch's Sequential they are number 1, 4, 7, ..., with GELU and dropout between them.
 * @param {Shelf} shelf @param {ModelKnobs} model @param {number} tokens @param {number} classes
 */
function takeHead(shelf, model, tokens, classes) {
  const widths = [model.embed_dim * (model.pool === "flatten" ? tokens : 1), ...model.head_hidden, classes];
  return widths.slice(1).map((outs, i) => shelf.takeLinear(`head.${1 + 3 * i}`, widths[i], outs));
}

/**
 * @param {ModelKnobs} model @param {Plan} plan @param {Weights} weights
 */
function spaceFor(model, plan, weights) {
  const size = plan.tokens * model.embed_dim;
  const heads = model.attn_form === "none" || model.attn_form === "mixing" ? 0 : model.num_heads;
  /** @type {(count: number, length: number) => Float32Array[]} */
  const many = (count, length) => Array.from({ length: count }, () => new Float32Array(length));
  const states = many(model.depth + 1, size); // after the embedding, after block 1, ...
  return {
    patches: new Float32Array(plan.places.length),
    states,
    early: states.slice(0, -1),
    last: states.slice(-1),
    attention: many(model.depth, heads * plan.tokens ** 2),
    block: blockSpace(model, plan.tokens, weights.blocks),
    normed: new Float32Array(size),
    pooled: new Float32Array(model.depth * weights.head[0].inner), // the logit lens needs this many rows at once
    head: weights.head.slice(0, -1).map((layer) => new Float32Array(model.depth * layer.outs)),
    logits: new Float32Array(weights.head[weights.head.length - 1].outs),
  };
}

/**
 * Projected patches plus positions: input [C, S, S] -> state [N, D].
 * @param {Float32Array} input @param {Weights} weights @param {Plan} plan
 * @param {Float32Array} state @param {Float32Array} patches @param {Cuts} cuts
 */
function embed(input, weights, plan, state, patches, cuts) {
  const { places } = plan;
  for (let i = 0; i < places.length; i++) {
    patches[i] = places[i] < 0 ? 0 : input[places[i]];
  }
  const { embedding, classToken, positions } = weights;
  const skip = plan.first * embedding.outs;
  linear(patches, embedding, skip === 0 ? state : state.subarray(skip), plan.tokens - plan.first);
  if (classToken !== null) {
    state.set(classToken);
  }
  if (!cuts.positions) {
    add(state, positions, positions.length);
  }
}

/**
 * x [N, D] -> one vector, written to `pooled` from `start` on: the class token, the mean of all tokens, or all of them.
 * @param {Float32Array} x @param {ModelKnobs} model @param {number} tokens
 * @param {Float32Array} pooled @param {number} start
 */
function pool(x, model, tokens, pooled, start) {
  const dim = model.embed_dim;
  if (model.pool === "cls") {
    pooled.set(x.subarray(0, dim), start);
  } else if (model.pool === "flatten") {
    pooled.set(x, start);
  } else {
    for (let d = 0; d < dim; d++) {
      let sum = 0;
      for (let n = 0; n < tokens; n++) {
        sum += x[n * dim + d];
      }
      pooled[start + d] = sum / tokens;
    }
  }
}

/**
 * Copies of the rows of data [rows, width].
 * @param {Float32Array} data @param {number} width
 */
function rowsOf(data, width) {
  return Array.from({ length: data.length / width }, (_, row) => data.slice(row * width, (row + 1) * width));
}
