// What the story says of the blocks: how tokens look at each other, what they take in, and what the MLP does.

import { percent } from "../net/numbers.js";
import { largestOf } from "./figures.js";
import { evenShares, looks, otherHidden, outcome, read } from "./findings.js";
import { amount, ends, matchOf, partOf } from "./sums.js";
import { counted, number } from "./vector.js";

/** @import { Loaded } from "../net/worker.js" */
/** @import { Chapter, Subject } from "./chapters.js" */
/** @import { Figure, Sum } from "./figures.js" */
/** @import { Match } from "./sums.js" */

const MLP = "#inside-steps:not([hidden]) > :nth-child(8)"; // of an opened patch, see steps.js

/** @returns {Chapter} */
export function noAttention() {
  return {
    title: "No attention",
    at: "mlp",
    say: "This network was trained without attention, so no token knows of the others until the end.",
    panels: ["#patches"],
    act: { ask: "Choose another network above to see attention." },
  };
}

/** @param {Subject} subject @returns {Chapter} */
export function match(subject) {
  const { model, one } = subject;
  const { attn_form: form, attn_bias: bias, embed_dim: dim, head_dim: wide, num_heads: heads } = model.config.model;
  const width = form === "merged" ? dim : (wide ?? dim / heads);
  const other = otherThan(subject);
  const lists =
    form === "qkv"
      ? "Learned matrices turn it into a query (what it looks for) and a key (what it offers)."
      : "A learned matrix turns it into a query (what it looks for); the token itself is its key (what it offers).";
  const { place } = subject.reading;
  const here = place ? ` (below: block ${place.block + 1}, head ${place.head + 1})` : "";
  const pairs = bias ? ", plus one learned for each pair of places (a usual ViT has none)" : "";
  return {
    title: "Tokens look at each other",
    at: "mix",
    say: `Each token is ${normed(model)}. ${lists} Query times key, number by number, added up and divided by √${width}, as each has ${width} numbers${pairs}, says how well two tokens match${here}. Softmax turns a token’s matches with all ${tokensOf(model)}, itself included, into shares: e ≈ 2.718 to the power of each match, so none is negative, divided by the sum of all.`,
    panels: ["#attention"],
    shows: { query: one },
    figure: matches(subject),
    act: {
      ask: `And patch ${other + 1}, in the corner: where does it look?`,
      button: `Look from patch ${other + 1}`,
      undo: `Look from patch ${one + 1} again`,
      changes: { query: other },
      found: looks,
    },
  };
}

/**
 * One query with two keys: the one that it takes most from, and the one that it takes least from.
 * @param {Subject} subject
 * @returns {Figure | undefined}
 */
function matches(subject) {
  const opened = openedOf(subject);
  if (!opened) return undefined;
  const { attention, first, patch } = opened;
  const [best, worst] = ends(attention, first).map((token) => matchOf(attention, token));
  if (!best || !worst) return undefined;
  const lists = largestOf(attention.q, best.key, worst.key);
  const products = largestOf(best.products, worst.products);
  /** @param {Match} one @param {string} which @returns {Sum} */
  const column = (one, which) => ({
    rows: [
      { name: `query of patch ${patch + 1}`, numbers: attention.q, largest: lists },
      { name: `× key of ${nameOf(one.token, opened)}`, numbers: one.key, largest: lists },
      { name: "= products", numbers: one.products, largest: products },
    ],
    lines: [
      `${which}: sum ${number(one.sum)} / √${one.key.length}${one.bias === null ? "" : ` ${signed(one.bias)} (pair)`} ≈ ${number(one.score)}`,
      `2.718^${number(one.score)} ≈ ${amount(one.power)}, of ${amount(one.total)} in all: ${percent(one.share)}`,
    ],
  });
  return { sums: [column(best, "Most"), column(worst, "Least")] };
}

/** @param {Subject} subject @returns {Chapter} */
export function take(subject) {
  const { model, answer, one } = subject;
  const { num_heads: heads, embed_dim: dim, head_dim: wide, attn_form: form, depth } = model.config.model;
  const width = wide ?? dim / heads;
  const value =
    form === "qkv"
      ? "A third matrix turns each token into a value (what it passes on)."
      : "The tokens themselves are the values (what they pass on).";
  const opened = openedOf(subject);
  const whose = opened ? `Patch ${opened.patch + 1}` : "Each token";
  const [most] = opened ? ends(opened.attention, opened.first) : [];
  const share =
    opened && most !== undefined
      ? `: ${percent(opened.attention.weights[most])} of the value of ${nameOf(most, opened)}, and so on`
      : "";
  const numbers = wide === null ? `${dim} / ${heads} = ${width}` : width;
  const joined =
    heads > 1
      ? `${depth > 1 ? "Each" : "The"} block has ${heads} such heads, each with its own matrices and ${numbers} numbers; one more matrix mixes these ${heads * width} numbers, side by side, into ${dim}.`
      : `${depth > 1 ? "Each" : "The"} block has one such head; one more matrix mixes what it found.`;
  return {
    title: "It takes its share of each",
    at: "mix",
    say: `${value} ${whose} adds up the values of all ${tokensOf(model)}, each times its share${share}. ${joined} The result is added to the token, so what it held before is kept.`,
    panels: ["#attention"],
    shows: { query: one },
    figure: taken(subject),
    act: {
      ask: `What if every token took an equal share of all, in every block? Is it still ${read(answer)}?`,
      button: "Make all shares even",
      undo: "Restore the learned shares",
      changes: { cuts: Array.from({ length: depth }, (_, i) => `m${i + 1}`) },
      found: evenShares,
    },
  };
}

/**
 * The two values that count most, each times its share, and the sum of all.
 * @param {Subject} subject
 * @returns {Figure | undefined}
 */
function taken(subject) {
  const opened = openedOf(subject);
  if (!opened) return undefined;
  const { attention, place } = opened;
  const { weights, carried } = attention;
  const order = Array.from(weights, (_, i) => i).sort((a, b) => weights[b] - weights[a]);
  const parts = order.slice(0, 2).map((token) => ({
    name: `${percent(weights[token])} of ${nameOf(token, opened)}`,
    numbers: partOf(attention, token),
  }));
  const all = [...parts, { name: "… of all: the sum", numbers: carried }];
  const largest = largestOf(...all.map(({ numbers }) => numbers));
  return {
    sums: [
      { rows: all.map((row) => ({ ...row, largest })), lines: [`Block ${place.block + 1}, head ${place.head + 1}.`] },
    ],
  };
}

/** @param {Subject} subject @returns {Chapter} */
export function mixing({ model, answer }) {
  return {
    title: "Tokens are mixed",
    at: "mix",
    say: `Each token is ${normed(model)}. Then it takes in a part of each of the ${model.squares.grid ** 2} tokens, number by number, and the result is added to it. How much it takes was learned for every pair of places; unlike attention in a Vision Transformer, this does not depend on what you draw.`,
    panels: ["#causes", "#attention"],
    act: {
      ask: `Without mixing in block 1, no token knows of the others there: is it still ${read(answer)}?`,
      button: "Switch mixing off",
      undo: "Switch it on again",
      changes: { cuts: ["t1"] },
      found: outcome,
    },
  };
}

/** @param {Subject} subject @returns {Chapter} */
export function mlp(subject) {
  const { model, one } = subject;
  const { act, embed_dim: dim } = model.config.model;
  const [hidden] = model.shapes["blocks.0.mlp.fc1.weight"] ?? [];
  const before = mixesOf(model);
  const start = before
    ? `The token, now with what ${before} added, is normalised again and goes alone through a small network, an MLP (multi-layer perceptron)`
    : `In a block, each token is ${normed(model)} and goes alone through a small network, an MLP (multi-layer perceptron)`;
  const bend = `negative ones become ${act === "relu2" ? "0" : "almost 0"}`;
  const other = otherThan(subject);
  return {
    title: "The MLP",
    at: "mlp",
    say: `${start}: a matrix makes ${hidden ? counted(hidden) : "more"} hidden numbers from it, ${bend}, and a second matrix turns them into ${dim}, which are added, too. So the features of one token combine into new ones; without that bend at 0, two matrices could do no more than one. ${blocksOf(model)}`,
    panels: [MLP, "#patches"],
    shows: { query: one },
    act: {
      ask: `The same matrices work on all tokens. What do they make of patch ${other + 1}?`,
      button: `Open patch ${other + 1}`,
      undo: `Open patch ${one + 1} again`,
      changes: { query: other },
      found: otherHidden,
    },
  };
}

/**
 * What normalising a token means in this network.
 * @param {Loaded} model
 */
function normed({ config }) {
  if (config.model.norm === "rms") return "normalised (its numbers divided by the root of their mean square)";
  return "normalised (its numbers minus their mean, divided by their standard deviation, then scaled and shifted as learned)";
}

/** @param {Loaded} model */
function blocksOf(model) {
  const { depth } = model.config.model;
  const before = mixesOf(model);
  const block = before
    ? `${before === "attention" ? "Attention" : "Mixing"} and MLP together are a block`
    : "The MLP alone is a block here";
  return depth === 1
    ? `${block}; this network has one.`
    : `${block}; this network has ${depth}, one after the other, with different learned numbers.`;
}

/** @param {Loaded} model */
export const mixesOf = ({ views }) => (views.mixing ? "mixing" : views.attention ? "attention" : null);

/** @param {Loaded} model */
function tokensOf({ squares, config }) {
  const patches = squares.grid ** 2;
  return config.model.pool === "cls" ? `${patches + 1} tokens (one is the class token)` : `${patches} tokens`;
}

/** @param {Subject} subject  a corner's patch */
function otherThan({ model, one }) {
  const all = model.squares.grid ** 2;
  return one === all - 1 ? 0 : all - 1;
}

/**
 * The attention of the opened token, if it is there and its block is not switched off.
 * @param {Subject} subject
 */
function openedOf({ model, reading }) {
  const { opened, place } = reading;
  if (!opened?.attention || !place) return null;
  const first = opened.attention.weights.length - model.squares.grid ** 2;
  return { attention: opened.attention, place, patch: place.patch, first };
}

/**
 * @param {number} token
 * @param {{ first: number, patch: number }} opened
 */
function nameOf(token, { first, patch }) {
  if (token < first) return "the class token";
  return token - first === patch ? `patch ${patch + 1} itself` : `patch ${token - first + 1}`;
}

/** @param {number} value */
const signed = (value) => (value < 0 ? `− ${number(-value)}` : `+ ${number(value)}`);
