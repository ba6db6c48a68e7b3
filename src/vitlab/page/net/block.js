// The pre-norm transformer block, as vitlab/model defines it: attention or, in an MLP-Mixer, dense layers across tokens;
// MLP, their norms, and the residual stream.
// Letters: N tokens, D embed_dim, h heads, d width of a head, H hidden width of the MLP. Arrays are stored row by row.

import { gelu } from "./gelu.js";
import { add, dots, layerNorm, linear, matrix, relu2, rmsNorm, softmax } from "./tensor.js";

/** @import { ModelKnobs } from "./config.js" */
/** @import { BlockCut } from "./cuts.js" */
/** @import { Rows } from "./tensor.js" */
/** @import { Shelf } from "./weights.js" */
/**
 * Gain and offset [D]; null for the root mean square, which has none.
 * @typedef {{ gain: Float32Array, offset: Float32Array } | null} Norm
 * @typedef {NonNullable<ReturnType<typeof takeAttention>>} Attention
 * @typedef {ReturnType<typeof takeMixing>} Mixing
 * @typedef {ReturnType<typeof takeBlock>} Block
 * @typedef {ReturnType<typeof blockSpace>} Space
 */

/**
 * The parameters of block number `index`.
 * @param {Shelf} shelf @param {ModelKnobs} model @param {number} index @param {number} tokens
 */
export function takeBlock(shelf, model, index, tokens) {
  const name = `blocks.${index}`;
  const dim = model.embed_dim;
  const { linear_bias: bias, attn_form: form } = model;
  const [hidden = 0] = shelf.shapeOf(`${name}.mlp.fc1.weight`); // round(embed_dim * mlp_ratio), computed in Python
  const attends = form === "qkv" || form === "merged";
  return {
    norm1: form === "none" ? null : takeNorm(shelf, model, `${name}.norm1`),
    attention: attends ? takeAttention(shelf, model, `${name}.attn`, tokens) : null,
    mixing: form === "mixing" ? takeMixing(shelf, `${name}.tokens`, tokens) : null,
    norm2: takeNorm(shelf, model, `${name}.norm2`),
    fc1: shelf.takeLinear(`${name}.mlp.fc1`, dim, hidden, bias),
    fc2: shelf.takeLinear(`${name}.mlp.fc2`, hidden, dim, bias),
  };
}

/**
 * @param {Shelf} shelf @param {ModelKnobs} model @param {string} name
 * @returns {Norm}
 */
export function takeNorm(shelf, model, name) {
  if (model.norm === "rms") {
    return null;
  }
  const dim = model.embed_dim;
  return { gain: shelf.take(`${name}.weight`, [dim]), offset: shelf.take(`${name}.bias`, [dim]) };
}

/**
 * "merged" has one head, which compares and mixes the tokens themselves: q is [D, D], and there are no k and v.
 * @param {Shelf} shelf @param {ModelKnobs} model @param {string} name @param {number} tokens
 */
function takeAttention(shelf, model, name, tokens) {
  const dim = model.embed_dim;
  const heads = model.num_heads;
  const merged = model.attn_form === "merged";
  const width = merged ? dim : (model.head_dim ?? dim / heads);
  return {
    heads,
    width,
    merged,
    mix: shelf.takeLinear(`${name}.${merged ? "q" : "qkv"}`, dim, merged ? dim : 3 * heads * width, model.linear_bias),
    proj: shelf.takeLinear(`${name}.proj`, heads * width, dim, model.linear_bias),
    bias: model.attn_bias ? shelf.take(`${name}.bias`, [heads, tokens, tokens]) : null,
  };
}

/**
 * Two dense layers along the tokens, the same for every number of a token.
 * @param {Shelf} shelf @param {string} name @param {number} tokens
 */
function takeMixing(shelf, name, tokens) {
  const [hidden = 0] = shelf.shapeOf(`${name}.fc1.weight`); // round(embed_dim * token_mlp_ratio), computed in Python
  return {
    fc1: shelf.takeLinear(`${name}.fc1`, tokens, hidden),
    fc2: shelf.takeLinear(`${name}.fc2`, hidden, tokens),
  };
}

/**
 * Working space that all blocks share.
 * @param {ModelKnobs} model @param {number} tokens @param {Block[]} blocks
 */
export function blockSpace(model, tokens, blocks) {
  const dim = model.embed_dim;
  const inner = Math.max(dim, ...blocks.map(({ attention }) => (attention ? attention.heads * attention.width : 0)));
  const hidden = Math.max(
    ...blocks.map(({ fc1, mixing }) => Math.max(tokens * fc1.outs, dim * (mixing?.fc1.outs ?? 0))),
  );
  return {
    normed: new Float32Array(tokens * dim),
    mixed: new Float32Array(tokens * 3 * inner), // q, k and v of every head; or what mixing adds, [D, N]
    values: new Float32Array(inner * tokens), // v of one head, [d, N]; or what mixing reads, [D, N]
    carried: new Float32Array(tokens * inner),
    hidden: new Float32Array(hidden),
    out: new Float32Array(tokens * dim),
  };
}

/**
 * Runs one block on x [N, D], in place, and leaves its attention weights [h, N, N] in `weights`. What is switched off
 * takes nothing from anywhere: its weights are 0.
 * @param {Float32Array} x @param {Block} block @param {ModelKnobs} model @param {number} tokens
 * @param {Float32Array} weights @param {Space} space @param {BlockCut} cut
 */
export function runBlock(x, block, model, tokens, weights, space, cut) {
  if (cut.skip) {
    weights.fill(0);
    return;
  }
  runAttention(x, block, model, tokens, weights, space, cut);
  runMixing(x, block, model, tokens, space, cut);
  runMlp(x, block, model, tokens, space);
}

/**
 * The first half of a block: x += attention(norm(x)). It leaves norm(x) in space.normed, q, k and v in space.mixed, what
 * the heads carry in space.carried, and what is added in space.out.
 * @param {Float32Array} x @param {Block} block @param {ModelKnobs} model @param {number} tokens
 * @param {Float32Array} weights @param {Space} space @param {BlockCut} cut
 */
export function runAttention(x, block, model, tokens, weights, space, cut) {
  if (block.attention === null) {
    return;
  }
  const dim = model.embed_dim;
  normalise(x, block.norm1, space.normed, tokens, dim);
  attend(space.normed, block.attention, weights, tokens, dim, space, cut);
  add(x, space.out, tokens * dim);
}

/**
 * The first half of a Mixer's block: x += mixed(norm(x)), for each of the D numbers along all tokens. It leaves norm(x) in
 * space.normed and what is added in space.out.
 * @param {Float32Array} x @param {Block} block @param {ModelKnobs} model @param {number} tokens
 * @param {Space} space @param {BlockCut} cut
 */
export function runMixing(x, { mixing, norm1 }, model, tokens, space, cut) {
  if (mixing === null) {
    return;
  }
  const dim = model.embed_dim;
  normalise(x, norm1, space.normed, tokens, dim);
  if (cut.mixing) {
    space.out.fill(0);
    return;
  }
  transpose(matrix(space.normed, dim), space.values, tokens, dim);
  linear(space.values, mixing.fc1, space.hidden, dim);
  activate(space.hidden, model, dim * mixing.fc1.outs);
  linear(space.hidden, mixing.fc2, space.mixed, dim);
  transpose(matrix(space.mixed, tokens), space.out, dim, tokens);
  add(x, space.out, tokens * dim);
}

/** @param {Float32Array} x @param {ModelKnobs} model @param {number} count */
function activate(x, model, count) {
  (model.act === "relu2" ? relu2 : gelu)(x, count);
}

/**
 * The second half: x += MLP(norm(x)). It leaves norm(x) in space.normed, the hidden numbers in space.hidden, and what is
 * added in space.out.
 * @param {Float32Array} x @param {Block} block @param {ModelKnobs} model @param {number} tokens @param {Space} space
 */
export function runMlp(x, block, model, tokens, space) {
  const dim = model.embed_dim;
  normalise(x, block.norm2, space.normed, tokens, dim);
  linear(space.normed, block.fc1, space.hidden, tokens);
  activate(space.hidden, model, tokens * block.fc1.outs);
  linear(space.hidden, block.fc2, space.out, tokens);
  if (model.mlp_last_gelu) {
    gelu(space.out, tokens * dim);
  }
  add(x, space.out, tokens * dim);
}

/**
 * x [N, D] -> y [N, D], with the model's norm.
 * @param {Float32Array} x @param {Norm} norm @param {Float32Array} y @param {number} rows @param {number} dim
 */
export function normalise(x, norm, y, rows, dim) {
  if (norm === null) {
    rmsNorm(x, y, rows, dim);
  } else {
    layerNorm(x, y, rows, dim, norm.gain, norm.offset);
  }
}

/**
 * softmax(q k^T / sqrt(d) + bias) v, heads side by side, then the projection: x [N, D] -> space.out [N, D].
 * @param {Float32Array} x @param {Attention} attention @param {Float32Array} weights
 * @param {number} tokens @param {number} dim @param {Space} space @param {BlockCut} cut
 */
function attend(x, attention, weights, tokens, dim, space, cut) {
  const { heads, width, mix, proj } = attention;
  linear(x, mix, space.mixed, tokens);
  for (let head = 0; head < heads; head++) {
    const { q, k, v } = headRows(x, attention, dim, space, head);
    weigh(q, k, attention, weights, tokens, head, cut);
    transpose(v, space.values, tokens, width);
    const from = matrix(weights, tokens, head * tokens * tokens);
    const carried = matrix(space.carried, heads * width, head * width);
    dots(from, matrix(space.values, tokens), carried, tokens, width, tokens);
  }
  linear(space.carried, proj, space.out, tokens);
}

/**
 * Where q, k and v of one head [N, d] lie after `attend`; x is the normalised tokens.
 * @param {Float32Array} x @param {Attention} attention @param {number} dim @param {Space} space @param {number} head
 */
export function headRows(x, { heads, width, merged, mix }, dim, space, head) {
  const all = heads * width;
  const q = matrix(space.mixed, mix.outs, head * width);
  const k = merged ? matrix(x, dim) : matrix(space.mixed, mix.outs, all + head * width);
  return { q, k, v: merged ? k : matrix(space.mixed, mix.outs, 2 * all + head * width) };
}

/**
 * The weights [N, N] of one head: each row is what a token takes from each.
 * @param {Rows} q @param {Rows} k @param {Attention} attention @param {Float32Array} weights
 * @param {number} tokens @param {number} head @param {BlockCut} cut
 */
function weigh(q, k, { width, bias }, weights, tokens, head, cut) {
  const first = head * tokens * tokens;
  const end = first + tokens * tokens;
  if (cut.heads[head] || cut.mean) {
    weights.fill(cut.heads[head] ? 0 : 1 / tokens, first, end);
    return;
  }
  dots(q, k, matrix(weights, tokens, first), tokens, tokens, width, width ** -0.5);
  if (bias !== null) {
    for (let i = first; i < end; i++) {
      weights[i] += bias[i];
    }
  }
  softmax(weights, tokens, tokens, first);
}

/**
 * from [rows, columns] -> to [columns, rows]: `dots` needs both factors along the inner dimension.
 * @param {Rows} from @param {Float32Array} to @param {number} rows @param {number} columns
 */
function transpose(from, to, rows, columns) {
  for (let r = 0; r < rows; r++) {
    for (let c = 0, at = from.start + r * from.stride; c < columns; c++, at++) {
      to[c * rows + r] = from.data[at];
    }
  }
}
