// What the story says, step by step, with the numbers of the user's own drawing and network.

import { brightest, withInk } from "../ink.js";
import { argmax, percent } from "../net/numbers.js";
import { capital, cell, words } from "../words.js";
import {
  firstOf,
  lensOf,
  looks,
  offCentre,
  otherLens,
  otherShares,
  otherToken,
  outcome,
  read,
  withoutMany,
  withoutPlaces,
} from "./findings.js";
import { number } from "./vector.js";

/** @import { View } from "../main.js" */
/** @import { Shown } from "../reader.js" */
/** @import { State } from "../state.js" */
/** @import { Loaded } from "../net/worker.js" */
/** @import { Place } from "./way.js" */
/**
 * Something to try: button and undo are what the button says before and after; found says what it has shown.
 * @typedef {{ ask: string, button?: string, undo?: string, changes?: Partial<State>,
 *   found?: (before: Subject, now: Subject) => string }} Act
 *
 * at: the place on the whole way. panels: where it is to be seen, as selectors; the first one that is on the page is
 * meant. shows: what is chosen while the step lasts. grids: whether the card shows the image in patches of all sizes.
 * @typedef {{ title: string, at: Place | null, say: string, panels: string[], act: Act, shows?: Partial<State>,
 *   grids?: boolean }} Chapter
 *
 * The patch whose loss costs this drawing's answer most, once that has been measured, how much, and all losses.
 * @typedef {{ one: number, falls: Float32Array }} Losses
 *
 * What the chapters are about. one: the patch that mattered most, if it has been measured, else the one with most ink.
 * @typedef {object} Subject
 * @property {Loaded} model
 * @property {Shown} reading
 * @property {string} thing  what the network's images are called
 * @property {string} answer
 * @property {number} one
 * @property {Float32Array | null} falls  of the answer's probability without each patch
 * @property {number[]} least  of the patches that may matter, the half that does least
 */

const AWAY = 6; // pixels
const TRAIN = "#train > .card";
const OPENED = "#inside > .card";
const VECTOR = "#inside-steps:not([hidden]) > :nth-child(2)"; // of an opened patch

/**
 * losses: as they were before anything was tried. held: the patch that the story already speaks of.
 * @param {View} view @param {Losses | null} losses @param {number | null} held
 * @returns {Subject | null}
 */
export function subjectOf({ model, reading, deletion, fresh }, losses, held) {
  if (!model || !reading) return null;
  const { thing, draws } = words(model.config);
  const answer = model.config.classes[argmax(reading.probabilities)];
  const one = held ?? losses?.one ?? brightest(reading.image, model.squares, model.config.channels);
  const falls = (fresh ? deletion : null) ?? losses?.falls ?? null;
  const all = Array.from({ length: model.squares.grid ** 2 }, (_, i) => i);
  const matter = draws ? withInk(reading.image, model.squares) : all;
  const known = losses?.falls;
  const ranked = known ? matter.toSorted((a, b) => known[a] - known[b]) : [];
  const least = ranked.slice(0, Math.ceil(ranked.length / 2));
  return { model, reading, thing, answer, one, falls, least };
}

/**
 * @param {Subject} subject
 * @returns {Chapter[]}
 */
export const chaptersOf = (subject) => (subject.model.views.tokens ? ofTokens(subject) : ofFilters(subject));

/** @param {Subject} subject */
function ofTokens(subject) {
  const chapters = [picture, receives, patches, tokens, position, attention, blocks, head, needed, sizes];
  return chapters.map((chapter) => chapter(subject));
}

/** @param {Subject} subject */
function ofFilters(subject) {
  return [picture, receives, filters, head, needed, others].map((chapter) => chapter(subject));
}

/** @param {Subject} subject @returns {Chapter} */
function picture({ model, reading, thing }) {
  const { size } = model.squares;
  const colours = model.config.channels;
  const many = `${size} × ${size}${colours > 1 ? ` × ${colours}` : ""}`;
  const what =
    colours > 1 ? "how red, green and blue each pixel is" : "how bright each pixel is, from 0 for black to 1 for white";
  const params = model.config.params ? `${count(model.config.params)} numbers` : "numbers";
  const some = colours > 1 ? "" : middleOf(reading.image, size);
  return {
    title: `Your ${thing}`,
    at: "pixels",
    say: `You see a ${thing}. The network, a long calculation with ${params} that it learned from examples, gets only numbers, too, ${many} = ${count(size * size * colours)} of them: ${what}${some}.`,
    panels: ["#draw-card"],
    act: { ask: thing === "picture" ? "Open another one, or draw over it." : "Draw another one: the answer follows." },
  };
}

/**
 * Four pixels from where the middle row first has ink.
 * @param {Float32Array} image @param {number} size
 */
function middleOf(image, size) {
  const row = image.slice(Math.floor(size / 2) * size, (Math.floor(size / 2) + 1) * size);
  const from = row.findIndex((value) => value > 0.1);
  return from < 0
    ? ""
    : ` (in the middle row of yours: …, ${Array.from(row.slice(from, from + 4), number).join(", ")}, …)`;
}

/** @param {Subject} subject @returns {Chapter} */
function receives({ model, thing, answer }) {
  const { config } = model;
  const pixels = `${config.preprocess.image_size} × ${config.preprocess.image_size} pixels`;
  if (config.drawing === null) {
    return {
      title: "What it receives",
      at: "pixels",
      say: `The whole picture is made as small as those that the network was trained on: ${pixels}.`,
      panels: ["#receives"],
      act: { ask: "Could you still tell what it is from the last picture here?" },
    };
  }
  return {
    title: "What it receives",
    at: "pixels",
    say: `The ${thing}s that it learned from were 20 pixels long and in the middle of ${pixels}. So yours is cut out, scaled to 20 pixels and moved to the middle. The last picture shows all that the network gets.`,
    panels: ["#receives"],
    act: {
      ask: `What if it were not in the middle? Move it ${AWAY} pixels to the right: is it still ${read(answer)}?`,
      button: "Move it",
      undo: "Move it back",
      changes: { shift: AWAY },
      found: offCentre,
    },
  };
}

/** @param {Subject} subject @returns {Chapter} */
function patches({ model, reading, one }) {
  const { grid, side } = model.squares;
  const inked = words(model.config).draws
    ? `; ${withInk(reading.image, model.squares).length} of yours contain ink, the others are black`
    : "";
  return {
    title: "Cut into patches",
    at: "patches",
    say: `${model.views.mixing ? "An MLP-Mixer" : "A Vision Transformer"} cuts the picture into ${grid} × ${grid} = ${grid ** 2} patches of ${side} × ${side} pixels${inked}. From here on it works with whole patches.`,
    panels: ["#patches"],
    act: {
      ask: `Follow patch ${one + 1} through the steps that come.`,
      button: `Follow patch ${one + 1}`,
      undo: "Let it go",
      changes: { query: one },
      found: () => `Patch ${one + 1} is framed in the grid, in the row below it, and in every panel of the page.`,
    },
  };
}

/** @param {Subject} subject @returns {Chapter} */
function tokens(subject) {
  const { model, one } = subject;
  const { squares, config } = model;
  const { patch_overlap: overlap, embed_dim: width } = config.model;
  const pixels = (squares.side + 2 * overlap) ** 2 * config.channels;
  const own = `its ${squares.side} × ${squares.side} pixels`;
  const from = overlap
    ? `${own} and ${overlap} more on every side, ${count(pixels)} numbers,`
    : `${own}, ${count(pixels)} numbers,`;
  const numbers = firstOf(subject);
  const first = numbers ? ` (${numbers})` : "";
  const bias = model.config.model.linear_bias ? ", plus one more number, b" : "";
  const around = overlap ? " and its neighbours, which see its edge" : "";
  return {
    title: "Each patch becomes a token",
    at: "tokens",
    say: `Patch ${one + 1}, for example: from ${from} the network computes ${width} others${first}. Each is a sum: every pixel times a learned weight (all weights together: the matrix W)${bias}. These numbers, e in the panel, are the patch's token.`,
    panels: [OPENED],
    shows: { query: one },
    act: {
      ask: `Turn patch ${one + 1} black: its token changes${around}; all others stay.`,
      button: `Turn patch ${one + 1} black`,
      undo: "Show it again",
      changes: { hidden: [one] },
      found: otherToken,
    },
  };
}

const MIXED = "So the next step has learned weights for each place, and nothing is added to the tokens.";
const ADDED = {
  learned: "So the network adds numbers to each token that it has learned for that place",
  sincos: "So the network adds waves of sine and cosine to each token, different ones for each place",
  none: "This network adds nothing that says where a patch was, so it must do without.",
};

/** @param {Subject} subject @returns {Chapter} */
function position({ model, thing, answer, one }) {
  const form = model.config.model.pos_embed;
  const added = !model.views.mixing && form !== "none";
  const sum = `: e + position ${one + 1} = x. From now on, "token" means x.`;
  const how = model.views.mixing ? MIXED : ADDED[form] + (added ? sum : "");
  return {
    title: model.views.mixing ? "Every place counts" : added ? "Its position is added" : "No position is added",
    at: added ? "position" : "tokens",
    say: `A token does not say where its patch was, but a line at the top means something else than one at the bottom. ${how}`,
    panels: added ? [VECTOR, "#patches"] : ["#patches"],
    shows: { query: one },
    act: added
      ? {
          ask: `Add no positions, all else the same: is it still ${read(answer)}?`,
          button: "Switch positions off",
          undo: "Switch them on again",
          changes: { cuts: ["pos"] },
          found: withoutPlaces,
        }
      : {
          ask: `Move your ${thing} 4 pixels to the right, into other patches: is it still ${read(answer)}?`,
          button: "Move it",
          undo: "Move it back",
          changes: { shift: 4 },
          found: outcome,
        },
  };
}

/** @param {Subject} subject @returns {Chapter} */
function attention(subject) {
  const { model, one } = subject;
  const { num_heads: heads } = model.config.model;
  if (model.views.mixing) return mixing(subject);
  if (!model.views.attention) {
    return {
      title: "No attention",
      at: "mlp",
      say: "This network was trained without attention, so no token knows of the others until the end.",
      panels: ["#attention"],
      act: { ask: "Choose another network above to see attention." },
    };
  }
  const { depth, attn_form: form } = model.config.model;
  const all = model.squares.grid ** 2;
  const other = one === all - 1 ? 0 : all - 1;
  const lists =
    form === "qkv"
      ? "From each token, learned matrices compute a query (what it looks for), a key (what it offers) and a value (what it hands over)."
      : "From each token, a learned matrix computes a query (what it looks for); the tokens themselves are what it is compared with (keys) and what is handed over (values).";
  const turns = depth > 1 ? ` in each of ${depth} blocks` : "";
  const many =
    heads > 1
      ? ` ${heads} heads with different matrices do so${turns}; one more matrix joins what they take in.`
      : turns && ` One head does so${turns}.`;
  return {
    title: "Tokens look at each other",
    at: "mix",
    say: `${lists} ${matches(subject)} It takes in that share of each value.${many}`,
    panels: ["#attention"],
    shows: { query: one },
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
 */
function matches({ model, reading }) {
  const all = model.squares.grid ** 2;
  const even = `an even share would be 1/${all} = ${percent(1 / all)}`;
  const { attention: opened } = reading.opened ?? {};
  if (!opened || !reading.place) {
    return `Query times key, added up, is how well they match; softmax (e to the power of each, divided by their sum) makes shares of 100 % of all matches (${even}).`;
  }
  const { patch, block, head: which } = reading.place;
  const first = opened.weights.length - all;
  const shares = opened.weights.subarray(first);
  const [most, least] = [argmax(shares), argmax(shares.map((share) => -share))];
  const [high, low] = [most, least].map((token) => number(opened.scores[first + token]));
  const [well, badly] = [most, least].map((token) =>
    token === patch ? "its own key" : `the key of patch ${token + 1}`,
  );
  const products = model.config.model.attn_bias
    ? "number times number, added up and scaled, plus a number learned for this pair of places"
    : "number times number, added up and scaled";
  return `In block ${block + 1}, head ${which + 1}, the query of patch ${patch + 1} matches ${well} best, ${high} (${products}), and ${badly} least, ${low}; softmax (e to the power of each, divided by their sum) makes shares of 100 % of all matches, here ${percent(shares[most])} and ${percent(shares[least])} (${even}).`;
}

/** @param {Subject} subject @returns {Chapter} */
function mixing({ model, answer }) {
  return {
    title: "Tokens are mixed",
    at: "mix",
    say: `Each token takes in a part of each of the ${model.squares.grid ** 2} tokens, number by number. How much of which was learned for every pair of places; unlike attention, it does not depend on what you draw.`,
    panels: ["#causes", "#attention"],
    act: {
      ask: `Let no token know of the others in block 1: is it still ${read(answer)}?`,
      button: "Switch mixing off",
      undo: "Switch it on again",
      changes: { cuts: ["t1"] },
      found: outcome,
    },
  };
}

/** @param {Subject} subject @returns {Chapter} */
function blocks(subject) {
  const { model, thing } = subject;
  const { mixing: mixes, attention: attends } = model.views;
  const { depth } = model.config.model;
  const [start, ...after] = lensOf(subject);
  const way = after.length
    ? ` If the last matrix (next step) read the tokens early, it would say ${start} before ${depth === 1 ? "the block" : "the first block"} and ${after.join(", ")} after ${depth === 1 ? "it" : "each"}.`
    : "";
  const many = depth === 1 ? "This network has one block." : `${depth} such blocks follow each other.`;
  const mlp =
    "a small network (MLP, multi-layer perceptron: two matrices; between them, negative numbers become almost 0) reworks each token alone";
  const sums =
    mixes || attends ? `what ${mixes ? "mixing" : "attention"} took in and what the MLP computed are` : "the result is";
  const then = mixes || attends ? `After ${mixes ? "the mixing" : "attention"}, ${mlp}` : `In a block, ${mlp}`;
  return {
    title: "Block after block",
    at: "mlp",
    say: `${then}; ${sums} added to the token. ${mixes || attends ? "That is a block. " : ""}${many}${way}`,
    panels: ["#lens-card", "#decide"],
    act: {
      ask: `Turn the ${thing} by 40°: which of these answers change?`,
      button: "Turn it by 40°",
      undo: "Turn it back",
      changes: { rotate: 40 },
      found: otherLens,
    },
  };
}

/** @param {Loaded} model */
function pooled({ config, squares }) {
  const { pool, embed_dim: width } = config.model;
  const all = squares.grid ** 2;
  if (pool === "cls")
    return `The class token, an extra one that belongs to no patch and has collected what matters, is ${width} numbers`;
  if (pool === "mean") return `The mean of all ${all} tokens, number by number, is ${width} numbers`;
  return `All ${all} tokens side by side are ${all} × ${width} = ${count(all * width)} numbers`;
}

/** @param {Subject} subject @returns {Chapter} */
function head({ model, reading, answer }) {
  const { classes } = model.config;
  const from = model.views.tokens ? pooled(model) : "What the filters found is a list of numbers";
  const one = words(model.config).digits
    ? "one for each digit from 0 to 9"
    : `one for each of ${classes.length} classes`;
  const sure = percent(Math.max(...reading.probabilities));
  const best = argmax(reading.probabilities);
  const last = model.config.model.head_hidden.length ? "The last matrices make" : "The last matrix makes";
  return {
    title: "The last matrix decides",
    at: "scores",
    say: `${from}. ${last} ${classes.length} scores of them, ${one}: again sums with learned weights. Softmax turns the scores into shares of 100 %, the probabilities: ${sure} for ${read(answer)}.`,
    panels: ["#answer-card", "#decide"],
    act: {
      ask: `Add noise to the pixels: who gets what ${read(classes[best])} loses?`,
      button: "Add noise",
      undo: "Take it away",
      changes: { noise: 0.3 },
      found: otherShares,
    },
  };
}

/** @param {Subject} subject @returns {Chapter} */
function needed({ model, answer, one, falls, least }) {
  const name = cell(model);
  const most = falls ? argmax(falls) : one;
  const points = Math.round(100 * (falls?.[most] ?? 0));
  const worst =
    points > 0 ? `, most without ${name} ${most + 1}, by ${points} of 100 ${points === 1 ? "point" : "points"}` : "";
  const looked = model.views.attention ? "Where it looked is not yet what it needed. To" : "What did it need? To";
  const several = least.length > 1;
  const hide = several ? `these ${least.length} ${name === "patch" ? "patches" : "squares"}` : `${name} ${one + 1}`;
  const inked = words(model.config).draws ? " with ink" : "";
  return {
    title: "What it needed",
    at: "answer",
    say: `${looked} find that, each ${name} alone is turned black: the probability of ${read(answer)} falls (red) or rises (blue)${worst}.`,
    panels: ["#needs"],
    act: {
      ask: several
        ? `Now several at once, the half of those${inked} that it needs least: is it still ${read(answer)}?`
        : `Hide ${hide}: is it still ${read(answer)}?`,
      button: `Hide ${hide}`,
      undo: several ? "Show them again" : "Show it again",
      changes: { hidden: several ? least : [one] },
      found: several ? withoutMany : outcome,
    },
  };
}

const LEARNS =
  "after each batch of images, every learned number moves a little down the slope of the error (its gradient). The page is yours.";

/** @param {Subject} subject @returns {Chapter} */
function sizes({ model }) {
  const pairs = model.views.attention ? ", and as each looks at each, twice as many make four times as many pairs" : "";
  return {
    title: "How many patches?",
    at: null,
    say: `The line above is the whole way. Smaller patches than this network's (framed) would show finer detail, but there would be more of them${pairs}: usually more accurate, always slower.`,
    grids: true,
    panels: [TRAIN, "#decide"],
    act: { ask: `Choose a patch size and press Train: ${LEARNS}` },
  };
}

/** @param {Subject} subject @returns {Chapter} */
function filters({ model }) {
  const [first, ...more] = model.config.model.cnn_channels;
  const layers = more.length ? `After each of ${1 + more.length} layers` : "After the layer";
  return {
    title: "Filters slide over it",
    at: "filters",
    say: `${capital(String(first))} small filters, learned from examples, look for edges and strokes, the same way everywhere. ${layers} only the strongest response of a neighbourhood is kept, so the next sees more at once.`,
    panels: ["#attention"],
    act: {
      ask: "Move it 4 pixels to the right: a filter finds the same edges there.",
      button: "Move it",
      undo: "Move it back",
      changes: { shift: 4 },
      found: outcome,
    },
  };
}

/** @param {Subject} subject @returns {Chapter} */
function others({ thing }) {
  return {
    title: "Now another one",
    at: null,
    say: `A Vision Transformer reads the same ${thing} in another way: in patches that look at each other.`,
    panels: [TRAIN, "#decide"],
    act: { ask: `Choose one above, or press Train: ${LEARNS}` },
  };
}

/** @param {number} value */
const count = (value) => value.toLocaleString("en");
