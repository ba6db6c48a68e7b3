// What happens to one token, number by number: from the pixels of its patch to the token after one block.
// Letters: P numbers of a patch, N tokens, D embed_dim, d width of a head, H hidden width of the MLP.

import { headRows, runAttention, runMixing, runMlp } from "./block.js";
import { dots, linear, matrix } from "./tensor.js";

/** @import { Attention, Space } from "./block.js" */
/** @import { ModelKnobs } from "./config.js" */
/** @import { Cuts } from "./cuts.js" */
/** @import { Rows } from "./tensor.js" */
/** @import { Plan, VitSpace, Weights } from "./vit.js" */
/**
 * Attention of one head, seen from the token. normed [D]: the token as attention reads it. q, k, v [d]: its query, key
 * and value; for attn_form "merged" k and v are the normalised token. scores [N]: what softmax receives, weights [N]:
 * what it gives. keys, values [N d]: those of all tokens; bias [N]: what is added for each pair, null if nothing is.
 * carried [d]: the weighted sum of all values. added [D]: what all heads together add; after [D]: the token then.
 * @typedef {{ normed: Float32Array, q: Float32Array, k: Float32Array, v: Float32Array, scores: Float32Array,
 *   weights: Float32Array, keys: Float32Array, values: Float32Array, bias: Float32Array | null,
 *   carried: Float32Array, added: Float32Array, after: Float32Array }} OpenedAttention
 *
 * Mixing in an MLP-Mixer, seen from the token: normed, added, after as above, [D].
 * @typedef {{ normed: Float32Array, added: Float32Array, after: Float32Array }} OpenedMixing
 *
 * normed [D], hidden [H] after the activation, added [D], after [D]: the token after the block.
 * @typedef {{ normed: Float32Array, hidden: Float32Array, added: Float32Array, after: Float32Array }} OpenedMlp
 *
 * pixels [P]: row, column, channel, as they go in, `across` pixels a side. embedded [D]: their projection. position [D]:
 * what is added for the place, null if nothing is. start [D]: the sum. before [D]: the token when it reaches the block.
 * attention and mixing are null in a network without, and both halves are null in a block that is skipped.
 * @typedef {{ pixels: Float32Array, across: number, embedded: Float32Array, position: Float32Array | null,
 *   start: Float32Array, before: Float32Array, attention: OpenedAttention | null, mixing: OpenedMixing | null,
 *   mlp: OpenedMlp | null }} Opened
 */

/**
 * Opens one patch's token in one block and head, all counted from 0, after a run with these cuts; null if there is no
 * such patch, block or head.
 * @param {ModelKnobs} model @param {Plan} plan @param {Weights} weights @param {VitSpace} space @param {Cuts} cuts
 * @param {number} patch @param {number} block @param {number} head
 * @returns {Opened | null}
 */
export function openToken(model, plan, weights, space, cuts, patch, block, head) {
  const here = inRange(patch, plan.grid ** 2) && inRange(block, model.depth) && inRange(head, model.num_heads);
  if (!here) {
    return null;
  }
  const dim = model.embed_dim;
  const token = plan.first + patch;
  const pixels = row(space.patches, patch, plan.patchLength);
  const embedded = new Float32Array(dim);
  linear(pixels, weights.embedding, embedded, 1);
  const placed = model.pos_embed !== "none" && !cuts.positions;
  const opened = {
    pixels,
    across: model.patch_size + 2 * model.patch_overlap,
    embedded,
    position: placed ? row(weights.positions, token, dim) : null,
    start: row(space.states[0], token, dim),
    before: row(space.states[block], token, dim),
    attention: null,
    mixing: null,
    mlp: null,
  };
  return cuts.blocks[block].skip ? opened : { ...opened, ...halves() };

  // The block once more, in two halves, to look at what each leaves behind.
  function halves() {
    const x = space.states[block].slice();
    const parameters = weights.blocks[block];
    runAttention(x, parameters, model, plan.tokens, space.attention[block], space.block, cuts.blocks[block]);
    const attention =
      parameters.attention &&
      readAttention(x, parameters.attention, space.attention[block], space.block, plan.tokens, dim, token, head);
    runMixing(x, parameters, model, plan.tokens, space.block, cuts.blocks[block]);
    const { normed, hidden, out } = space.block;
    const whole = { normed: row(normed, token, dim), added: row(out, token, dim), after: row(x, token, dim) };
    const mixing = parameters.mixing && whole;
    runMlp(x, parameters, model, plan.tokens, space.block);
    const mlp = {
      normed: row(normed, token, dim),
      hidden: row(hidden, token, parameters.fc1.outs),
      added: row(out, token, dim),
      after: row(x, token, dim),
    };
    return { attention, mixing, mlp };
  }
}

/**
 * What runAttention has left of one token and head; x [N, D] is what it has made.
 * @param {Float32Array} x @param {Attention} attention @param {Float32Array} weights @param {Space} space
 * @param {number} tokens @param {number} dim @param {number} token @param {number} head
 * @returns {OpenedAttention}
 */
function readAttention(x, attention, weights, space, tokens, dim, token, head) {
  const { heads, width, bias } = attention;
  const { q, k, v } = headRows(space.normed, attention, dim, space, head);
  const pair = (head * tokens + token) * tokens; // where the token's row begins among all weights
  const scores = new Float32Array(tokens);
  const own = { ...q, start: q.start + token * q.stride };
  dots(own, k, matrix(scores, tokens), 1, tokens, width, width ** -0.5);
  return {
    normed: row(space.normed, token, dim),
    q: rowOf(q, token, width),
    k: rowOf(k, token, width),
    v: rowOf(v, token, width),
    scores: bias === null ? scores : scores.map((score, i) => score + bias[pair + i]),
    weights: weights.slice(pair, pair + tokens),
    keys: allOf(k, tokens, width),
    values: allOf(v, tokens, width),
    bias: bias?.slice(pair, pair + tokens) ?? null,
    carried: rowOf(matrix(space.carried, heads * width, head * width), token, width),
    added: row(space.out, token, dim),
    after: row(x, token, dim),
  };
}

/** @param {number} value @param {number} count */
const inRange = (value, count) => Number.isInteger(value) && value >= 0 && value < count;

/** @param {Float32Array} data @param {number} index @param {number} width */
const row = (data, index, width) => data.slice(index * width, (index + 1) * width);

/** @param {Rows} rows @param {number} index @param {number} width */
const rowOf = ({ data, start, stride }, index, width) =>
  data.slice(start + index * stride, start + index * stride + width);

/** @param {Rows} rows @param {number} count @param {number} width */
function allOf(rows, count, width) {
  const all = new Float32Array(count * width);
  for (let i = 0; i < count; i++) all.set(rowOf(rows, i, width), i * width);
  return all;
}
