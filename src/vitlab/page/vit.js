// The Vision Transformer, as model/vit.py defines it: patches -> tokens -> blocks -> one vector -> class scores.
// Letters: C channels, S side of the input, P numbers of a patch, N tokens, D embed_dim, h heads, K classes.

import { blockSpace, normalise, runBlock, takeBlock, takeNorm } from "./block.js";
import { gelu } from "./gelu.js";
import { geometry } from "./geometry.js";
import { add, linear, softmax } from "./tensor.js";
import { ModelError, shelf as shelfOf } from "./weights.js";

/** {run, trace}, see model.js; ModelError if the weights do not fit. */
export function build(config, tensors) {
  const { model } = config;
  checkHeads(model);
  const plan = planOf(config);
  const shelf = shelfOf(tensors);
  const weights = takeWeights(shelf, config, plan);
  shelf.finish();
  const space = spaceFor(model, plan, weights);

  /** input [C, S, S], preprocessed -> logits [K], which stay valid until the next run. */
  function run(input) {
    const { states, attention } = space;
    embed(input, weights, plan, states[0], space.patches);
    weights.blocks.forEach((block, i) => {
      states[i + 1].set(states[i]);
      runBlock(states[i + 1], block, model, plan.tokens, attention[i], space.block);
    });
    answer(space.last, space.logits);
    return space.logits;
  }

  /** Norm, pooling and head on each of several token arrays [N, D] -> logits, a row [K] for each. */
  function answer(states, logits) {
    states.forEach((state, row) => {
      normalise(state, weights.norm, space.normed, plan.tokens, model.embed_dim);
      pool(space.normed, model, plan.tokens, space.pooled, row * weights.head[0].inner);
    });
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

  /** What the last run left, in arrays of its own: logits, probabilities, attention, and the logit lens: probabilities
   * as if the network ended after the embedding, after block 1, and so on (look/inside.py's logit_lens). */
  function trace(inside = true) {
    const logits = space.logits.slice();
    const probabilities = logits.slice();
    softmax(probabilities, 1, probabilities.length);
    if (!inside) {
      return { logits, probabilities, attention: [], lens: [] };
    }
    const hasAttention = model.attn_form !== "none";
    const view = (data) => ({ heads: model.num_heads, tokens: plan.tokens, weights: data.slice() });
    const early = new Float32Array(model.depth * logits.length);
    answer(space.early, early);
    softmax(early, model.depth, logits.length);
    return {
      logits,
      probabilities,
      attention: hasAttention ? space.attention.map(view) : [],
      lens: [...rowsOf(early, logits.length), probabilities.slice()],
    };
  }

  return { run, trace };
}

function checkHeads(model) {
  if (model.head_dim === null && model.embed_dim % model.num_heads !== 0) {
    const [heads, dim] = [model.num_heads, model.embed_dim];
    throw new ModelError(`config.json is damaged: ${heads} heads do not divide embed_dim ${dim}.`);
  }
  if (model.attn_form === "merged" && model.num_heads !== 1) {
    throw new ModelError(`config.json is damaged: attn_form merged has one head, not ${model.num_heads}.`);
  }
  if (model.pos_embed === "sincos" && model.embed_dim % 4 !== 0) {
    throw new ModelError(`config.json is damaged: pos_embed sincos needs an embed_dim that 4 divides.`);
  }
}

/** Numbers of tokens, and where each number of each patch lies in the input; -1 beyond it, where patches see 0. */
function planOf(config) {
  const { model, channels } = config;
  const { grid, margin, input } = geometry(model);
  const reach = grid * model.patch_size + 2 * margin; // what does not fill a patch at the right and bottom is cut off
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
          places[at++] = inside ? (c * input + y) * input + x : -1; // in a patch: row, column, channel (patchify)
        }
      }
    }
  }
  const first = model.pool === "cls" ? 1 : 0; // the class token comes before the patches
  return { grid, first, tokens: first + grid * grid, places, patchLength: side * side * channels };
}

function takeWeights(shelf, config, plan) {
  const { model, classes } = config;
  const dim = model.embed_dim;
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

/** Positions [N, D]; fixed waves are in no file: half for the row, half for the column (Beyer et al. 2022). */
function takePositions(shelf, model, plan) {
  const dim = model.embed_dim;
  if (model.pos_embed === "learned") {
    return shelf.take("pos_embed", [plan.tokens, dim]);
  }
  const positions = new Float32Array(plan.tokens * dim);
  const quarter = dim / 4;
  const wave = (place, k) => {
    const angle = place * 10000 ** -((k % quarter) / quarter);
    return k < quarter ? Math.sin(angle) : Math.cos(angle);
  };
  for (let patch = 0; model.pos_embed === "sincos" && patch < plan.grid ** 2; patch++) {
    for (let k = 0; k < 2 * quarter; k++) {
      const at = (plan.first + patch) * dim + k; // the class token has no place
      positions[at] = wave(Math.floor(patch / plan.grid), k);
      positions[at + 2 * quarter] = wave(patch % plan.grid, k);
    }
  }
  return positions;
}

/** The head's Linears; in torch's Sequential they are number 1, 4, 7, ..., with GELU and dropout between. */
function takeHead(shelf, model, tokens, classes) {
  const widths = [model.embed_dim * (model.pool === "flatten" ? tokens : 1), ...model.head_hidden, classes];
  return widths.slice(1).map((outs, i) => shelf.takeLinear(`head.${1 + 3 * i}`, widths[i], outs));
}

function spaceFor(model, plan, weights) {
  const size = plan.tokens * model.embed_dim;
  const heads = model.attn_form === "none" ? 0 : model.num_heads;
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
    pooled: new Float32Array(model.depth * weights.head[0].inner), // as many rows as the logit lens asks for at once
    head: weights.head.slice(0, -1).map((layer) => new Float32Array(model.depth * layer.outs)),
    logits: new Float32Array(weights.head.at(-1).outs),
  };
}

/** Projected patches with their positions: input [C, S, S] -> state [N, D]. */
function embed(input, weights, plan, state, patches) {
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
  add(state, positions, positions.length);
}

/** x [N, D] -> one vector, written to `pooled` from `start` on: the class token, the mean of all, or all of them. */
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

/** data [rows, width] -> its rows, each in an array of its own. */
function rowsOf(data, width) {
  return Array.from({ length: data.length / width }, (_, row) => data.slice(row * width, (row + 1) * width));
}
