// The steps of one token through one block: title, formula, a sentence, and the vectors to show. The last vector of each
// is its result.

import { attentionColour } from "../colour.js";
import { percent } from "../net/numbers.js";
import { counted, number } from "./vector.js";

/** @import { Colour } from "../colour.js" */
/** @import { Opened } from "../net/token.js" */
/** @import { Loaded } from "../net/worker.js" */
/**
 * patch, block and head count from 0.
 * @typedef {{ model: Loaded, patch: number, block: number, head: number }} Setting
 *
 * shows: "row" for the map of what is taken. together: whether its vectors share one scale of colours. digits: how its
 * numbers are written. colour: of a number, if not by its sign.
 * @typedef {{ title: string, formula: string, say: string, vectors: [string, Float32Array][], shows?: "row",
 *   together?: boolean, digits?: (value: number) => string, colour?: (value: number) => Colour }} Step
 */

/** @type {((opened: Opened, setting: Setting) => Step | null)[]} */
export const STEPS = [pixels, vector, queryKeyValue, weights, carried, afterAttention, mixed, mlp, afterBlock];

/**
 * @param {Opened} opened @param {Setting} setting
 * @returns {Step}
 */
function pixels({ pixels: numbers, across }, { model, patch }) {
  const { preprocess, channels } = model.config;
  const colours = channels === 3 ? " in three colours" : "";
  const over = model.config.model.patch_overlap > model.squares.margin;
  const beyond = over ? " Beyond the edge of the image, it sees 0, the mean." : "";
  const [mean, std] = [preprocess.mean, preprocess.std].map((values) => values.map((value) => value.toFixed(3)));
  const formula =
    channels === 1 ? `p = (pixel − ${mean[0]}) / ${std[0]}` : "p = (pixel − mean of its colour) / its deviation";
  return {
    title: `1 · The pixels of patch ${patch + 1}`,
    formula,
    say: `${across} × ${across} pixels${colours}, from 0 (black) to 1, minus the mean of all training pixels, divided by their standard deviation.${beyond}`,
    vectors: [["p", numbers]],
  };
}

/**
 * @param {Opened} opened @param {Setting} setting
 * @returns {Step}
 */
function vector({ pixels: from, embedded, position, start }, { model, patch }) {
  const size = `W has ${counted(embedded.length)} × ${counted(from.length)} learned numbers, the same for every patch.`;
  const nothing = model.views.mixing
    ? "Nothing is added for its place: mixing knows the places."
    : "Nothing is added for its place here.";
  const place = `The position says where the patch is: ${model.config.model.patch_overlap ? "away from the edge, " : ""}e alone would be the same wherever the patch lay.`;
  /** @type {[string, Float32Array][]} */
  const vectors =
    position === null
      ? [["x = e", start]]
      : [
          ["e", embedded],
          [`position ${patch + 1}`, position],
          ["x", start],
        ];
  return {
    title: "2 · Its vector: the token",
    formula: position === null ? "x = e = W p + b" : `e = W p + b      x = e + position ${patch + 1}`,
    say: `${size} ${position === null ? nothing : place}`,
    vectors,
    together: true,
  };
}

/**
 * @param {Opened} opened @param {Setting} setting
 * @returns {Step | null}
 */
function queryKeyValue({ before, attention }, { model, block, head }) {
  if (attention === null) return null;
  const merged = model.config.model.attn_form === "merged";
  return {
    title: `3 · Query, key and value in block ${block + 1}${ofHead(model, head)}`,
    formula: merged
      ? "n = norm(x)      q = W n + b      k = v = n"
      : "n = norm(x)      q = W_q n + b_q      k = W_k n + b_k      v = W_v n + b_v",
    say: merged
      ? "The query says what it looks for. This network compares it with the tokens themselves, and passes them on."
      : "The query says what it looks for, the key what others find in it, the value what it passes on.",
    vectors: [
      [block ? `x, as it leaves block ${block}` : "x", before],
      ["n", attention.normed],
      ["k", attention.k],
      ["v", attention.v],
      ["q", attention.q],
    ],
  };
}

/**
 * @param {Opened} opened @param {Setting} setting
 * @returns {Step | null}
 */
function weights({ attention }, { model }) {
  if (attention === null) return null;
  const bias = model.config.model.attn_bias ? " + bias" : "";
  return {
    title: "4 · What it takes from each token",
    formula: `aⱼ = exp(sⱼ) / Σ exp(s)      sⱼ = q · kⱼ / √${attention.q.length}${bias}`,
    say: `Its query is compared with the key of each of the ${counted(attention.weights.length)} tokens; softmax turns the results into shares of 100 %.`,
    vectors: [["a, one for each token", attention.weights]],
    shows: "row",
    digits: (value) => percent(value),
    colour: (share) => attentionColour(share, model.squares.grid ** 2),
  };
}

/**
 * @param {Opened} opened @param {Setting} setting
 * @returns {Step | null}
 */
function carried({ attention }, { model, head }) {
  if (attention === null) return null;
  return {
    title: `5 · The values it takes${ofHead(model, head)}`,
    formula: "o = a₁ v₁ + a₂ v₂ + a₃ v₃ + …",
    say: "The values of all tokens, each times its share, added up.",
    vectors: [["o", attention.carried]],
  };
}

/**
 * @param {Opened} opened @param {Setting} setting
 * @returns {Step | null}
 */
function afterAttention({ attention }, { model }) {
  if (attention === null) return null;
  const { num_heads: heads } = model.config.model;
  const all = heads === 1 ? "o" : heads === 2 ? "[o of head 1, o of head 2]" : `[o of head 1, …, o of head ${heads}]`;
  return {
    title: "6 · The token after attention",
    formula: `c = W_o ${all} + b_o      x′ = x + c`,
    say: "One matrix joins what all heads took. The result is added to the token, which is kept (a residual connection).",
    vectors: [
      ["c, what is added", attention.added],
      ["x′", attention.after],
    ],
  };
}

/**
 * @param {Opened} opened @param {Setting} setting
 * @returns {Step | null}
 */
function mixed({ before, mixing }, { model, patch, block }) {
  if (mixing === null) return null;
  const tokens = model.squares.grid ** 2;
  const act = model.config.model.act === "relu2" ? "relu²" : "gelu";
  return {
    title: `3 · What it takes from all patches in block ${block + 1}`,
    formula: `n = norm(x)      c = row ${patch + 1} of V₂ ${act}(V₁ N + c₁) + c₂      x′ = x + c`,
    say:
      `N holds n of all ${counted(tokens)} tokens, one in each row. V₁ and V₂ mix the rows, each column by itself, with learned ` +
      "weights for each place, which are the same for every drawing.",
    vectors: [
      [block ? `x, as it leaves block ${block}` : "x", before],
      ["n", mixing.normed],
      ["c, what is added", mixing.added],
      ["x′", mixing.after],
    ],
  };
}

/** @param {Opened} opened how many steps come before the MLP */
const stepsBefore = ({ attention, mixing }) => (attention ? 6 : mixing ? 3 : 2);

/**
 * @param {Opened} opened @param {Setting} setting
 * @returns {Step | null}
 */
function mlp(opened, { model }) {
  const { attention, mixing, mlp: half } = opened;
  if (half === null) return null;
  const { act, mlp_last_gelu: last } = model.config.model;
  const inner = `W₂ ${act === "relu2" ? "relu²" : "gelu"}(W₁ n + b₁) + b₂`;
  const normed = `n = norm(${attention || mixing ? "x′" : "x"})`;
  return {
    title: `${stepsBefore(opened) + 1} · The MLP`,
    formula: `${normed}      m = ${last ? `gelu(${inner})` : inner}`,
    say: `Each token by itself: to ${counted(half.hidden.length)} numbers and back to ${counted(half.added.length)}.`,
    vectors: [
      ["n, normalised", half.normed],
      ["hidden", half.hidden],
      ["m, what is added", half.added],
    ],
  };
}

/**
 * @param {Opened} opened @param {Setting} setting
 * @returns {Step | null}
 */
function afterBlock(opened, { model, block }) {
  const { attention, mixing, mlp: half } = opened;
  if (half === null) return null;
  const { depth } = model.config.model;
  const next =
    block + 1 < depth ? `It goes on to block ${block + 2}.` : "That was the last block; next, the last matrix decides.";
  const largest = half.after.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return {
    title: `${stepsBefore(opened) + 2} · The token after block ${block + 1}`,
    formula: attention || mixing ? "x″ = x′ + m" : "x″ = x + m",
    say: `${next} Its largest number, leaving signs aside, is ${number(largest)}.`,
    vectors: [["x″", half.after]],
  };
}

/** @param {Loaded} model @param {number} head */
const ofHead = ({ config }, head) => (config.model.num_heads === 1 ? "" : `, head ${head + 1}`);
