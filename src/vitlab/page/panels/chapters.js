// What the story says, step by step, with the numbers of the user's own drawing and network.

import { brightest, withInk } from "../ink.js";
import { argmax, percent } from "../net/numbers.js";
import { capital, cell, words } from "../words.js";

/** @import { View } from "../main.js" */
/** @import { Shown } from "../reader.js" */
/** @import { State } from "../state.js" */
/** @import { Loaded } from "../net/worker.js" */
/**
 * Something to try: button and undo are what the button says before and after.
 * @typedef {{ ask: string, button?: string, undo?: string, changes?: Partial<State> }} Act
 *
 * panels: where it is to be seen, as selectors; the first one that is on the page is meant. shows: what is chosen while
 * the step lasts.
 * @typedef {{ title: string, say: string, panels: string[], act: Act, shows?: Partial<State> }} Chapter
 *
 * What the chapters are about. one: the patch that mattered most, if it has been measured, else the one with most ink.
 * @typedef {object} Subject
 * @property {Loaded} model
 * @property {Shown} reading
 * @property {string} thing  what the network's images are called
 * @property {string} answer
 * @property {number} one
 * @property {number | null} fall  of the answer's probability without that patch
 */

const TRAIN = "#train > .card";

/**
 * needs: the patch whose loss cost this drawing's answer most, once that has been measured, and how much.
 * @param {View} view @param {{ one: number, fall: number } | null} needs
 * @returns {Chapter[]}
 */
export function chaptersOf({ model, reading }, needs) {
  if (!model || !reading) return [];
  const { thing } = words(model.config);
  const answer = model.config.classes[argmax(reading.probabilities)];
  const one = needs?.one ?? brightest(reading.image, model.squares, model.config.channels);
  const subject = { model, reading, thing, answer, one, fall: needs?.fall ?? null };
  return model.views.tokens ? ofTokens(subject) : ofFilters(subject);
}

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
function picture({ model, thing }) {
  const { size } = model.squares;
  const colours = model.config.channels;
  const many = `${size} × ${size}${colours > 1 ? ` × ${colours}` : ""}`;
  const what = colours > 1 ? "how red, green and blue each pixel is" : "how bright each pixel is";
  return {
    title: `Your ${thing}`,
    say: `You see a ${thing}; the network gets ${many} = ${count(size * size * colours)} numbers, ${what}, and nothing else.`,
    panels: ["#draw-card"],
    act: { ask: thing === "picture" ? "Open another one, or draw over it." : "Draw another one: the answer follows." },
  };
}

/** @param {Subject} subject @returns {Chapter} */
function receives({ model, thing, answer }) {
  const { config } = model;
  const pixels = `${config.preprocess.image_size} × ${config.preprocess.image_size} pixels`;
  if (config.drawing === null) {
    return {
      title: "What it receives",
      say: `The whole picture is made as small as those that the network was trained on: ${pixels}.`,
      panels: ["#receives"],
      act: { ask: "Could you still tell what it is from the last picture here?" },
    };
  }
  return {
    title: "What it receives",
    say: `The ${thing}s that it learned from were of one size and centred, so yours is cut out, scaled and moved to the middle: ${pixels}.`,
    panels: ["#receives"],
    act: {
      ask: `Leave it where you drew it: is it still ${read(answer)}?`,
      button: "Switch centring off",
      undo: "Switch it on again",
      changes: { center: false },
    },
  };
}

/** @param {Subject} subject @returns {Chapter} */
function patches({ model, reading, one }) {
  const { grid, side } = model.squares;
  const inked = words(model.config).draws ? `; ${withInk(reading.image, model.squares)} of yours contain ink` : "";
  return {
    title: "Cut into patches",
    say: `${model.views.mixing ? "An MLP-Mixer" : "A Vision Transformer"} cuts the picture into ${grid} × ${grid} = ${grid ** 2} patches of ${side} × ${side} pixels, as words make up a sentence${inked}.`,
    panels: ["#patches"],
    act: {
      ask: `Follow patch ${one + 1}: every panel frames it.`,
      button: `Follow patch ${one + 1}`,
      undo: "Let it go",
      changes: { query: one },
    },
  };
}

/** @param {Subject} subject @returns {Chapter} */
function tokens({ model, one }) {
  const { squares, config } = model;
  const { patch_overlap: overlap, embed_dim: width } = config.model;
  const pixels = (squares.side + 2 * overlap) ** 2 * config.channels;
  return {
    title: "Each patch becomes a token",
    say: `The ${count(pixels)} numbers of a patch${overlap ? " and its edges" : ""}, multiplied by a matrix that was learned from examples, become ${width} numbers that say what is in it: the token.`,
    panels: ["#inside > .card", "#patches"],
    act: {
      ask: `Take patch ${one + 1} and draw through it: its token changes, the others stay.`,
      button: `Take patch ${one + 1}`,
      undo: "Let it go",
      changes: { query: one },
    },
  };
}

const MIXED = "so the next step has learned weights for each place: the network need not be told where a patch was";
const ADDED = {
  learned: "so numbers learned for each place are added to each token",
  sincos: "so waves of sine and cosine, different for each place, are added to each token",
  none: "and this network adds nothing that says where a patch was, so it must do without",
};

/** @param {Subject} subject @returns {Chapter} */
function position({ model, thing, answer }) {
  const mixes = model.views.mixing;
  return {
    title: mixes ? "Every place counts" : "Its position is added",
    say: `Tokens have no order, and a line at the top means something else than one at the bottom, ${mixes ? MIXED : ADDED[model.config.model.pos_embed]}.`,
    panels: ["#patches"],
    act: {
      ask: `Move your ${thing} by 4 pixels, into other patches: is it still ${read(answer)}?`,
      button: "Move it",
      undo: "Move it back",
      changes: { shift: 4 },
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
      say: "This network was trained without attention, so no token knows of the others until the end.",
      panels: ["#attention"],
      act: { ask: "Choose another network above to see attention." },
    };
  }
  const asks =
    model.config.model.attn_form === "qkv"
      ? "asks a question (its query), compares it with what every token offers (its key)"
      : "compares itself with every other";
  const each = heads > 1 ? `; each of the ${heads} heads asks for something else` : "";
  return {
    title: "Tokens look at each other",
    say: `Every token ${asks}, turns the matches into shares of 100 % (softmax), and takes in that share of each${each}. Red is much, blue is little.`,
    panels: ["#attention"],
    act: {
      ask: `Where does patch ${one + 1} look?`,
      button: `Look from patch ${one + 1}`,
      undo: "Show all again",
      changes: { query: one },
    },
  };
}

/** @param {Subject} subject @returns {Chapter} */
function mixing({ model, answer }) {
  return {
    title: "Tokens are mixed",
    say: `Each token takes in a part of each of the ${model.squares.grid ** 2} tokens, number by number. How much of which was learned for every pair of places; unlike attention, it does not depend on what you draw.`,
    panels: ["#causes", "#attention"],
    act: {
      ask: `Let no token know of the others in block 1: is it still ${read(answer)}?`,
      button: "Switch mixing off",
      undo: "Switch it on again",
      changes: { cuts: ["t1"] },
    },
  };
}

/** @param {Subject} subject @returns {Chapter} */
function blocks({ model, reading }) {
  const { depth } = model.config.model;
  const { classes } = model.config;
  const stages = reading.lens.map((probabilities) => classes[argmax(probabilities)]);
  const way = stages.length ? `, and stopped after each it would say: ${stages.join(", ")}` : "";
  const many = depth === 1 ? "The network has one block" : `${depth} such blocks follow each other`;
  return {
    title: "Block after block",
    say: `After ${model.views.mixing ? "the mixing" : "attention"}, a small network reworks each token alone, and both results are added to the token; that is a block. ${many}${way}.`,
    panels: ["#lens-card", "#decide"],
    act: {
      ask: "Turn it by 40°: does it change its mind, and in which block?",
      button: "Turn it by 40°",
      undo: "Turn it back",
      changes: { rotate: 40 },
    },
  };
}

const POOLED = {
  cls: "One extra token, which has collected what matters,",
  mean: "The average of all tokens",
  flatten: "All tokens together",
};

/** @param {Subject} subject @returns {Chapter} */
function head({ model, reading, answer }) {
  const { classes } = model.config;
  const from = model.views.tokens ? POOLED[model.config.model.pool] : "What the filters found";
  const sure = percent(Math.max(...reading.probabilities));
  return {
    title: "The head decides",
    say: `${from} times a last learned matrix gives a score for each of ${classes.length} classes, and softmax makes probabilities of the scores: ${sure} for ${read(answer)}.`,
    panels: ["#answer-card", "#decide"],
    act: {
      ask: "Demand 95 % certainty: does it still dare to answer?",
      button: "Demand 95 %",
      undo: "Be content with less",
      changes: { threshold: 0.95 },
    },
  };
}

/** @param {Subject} subject @returns {Chapter} */
function needed({ model, answer, one, fall }) {
  const name = cell(model);
  const points = Math.round(100 * (fall ?? 0));
  const worst =
    points > 0 ? `: most without ${name} ${one + 1}, by ${points} ${points === 1 ? "point" : "points"}` : "";
  const looked = model.views.attention
    ? "Where it looked is not yet what it needed; that shows"
    : "What did it need? That shows";
  return {
    title: "What it needed",
    say: `${looked} when each ${name} in turn is hidden and the probability of ${read(answer)} falls${worst}.`,
    panels: ["#needs"],
    act: {
      ask: `Hide ${name} ${one + 1}: is it still ${read(answer)}?`,
      button: `Hide ${name} ${one + 1}`,
      undo: "Show it again",
      changes: { hidden: [one] },
    },
  };
}

/** @param {Subject} subject @returns {Chapter} */
function sizes({ model }) {
  const now = model.squares.grid ** 2;
  const pairs = model.views.attention
    ? `, and as each looks at each, ${count(16 * now ** 2)} pairs instead of ${count(now ** 2)}`
    : "";
  return {
    title: "Size and number of patches",
    say: `Patches half as wide show finer detail, but there are ${count(4 * now)} instead of ${now}${pairs}: usually more exact, always slower.`,
    panels: [TRAIN, "#decide"],
    act: {
      ask: "Choose a patch size and press Train: image by image, every number of its matrices moves a little towards the right answers. The page is yours.",
    },
  };
}

/** @param {Subject} subject @returns {Chapter} */
function filters({ model }) {
  const [first, ...more] = model.config.model.cnn_channels;
  const layers = more.length ? `After each of ${1 + more.length} layers` : "After the layer";
  return {
    title: "Filters slide over it",
    say: `${capital(String(first))} small filters, learned from examples, look for edges and strokes, the same way everywhere. ${layers} only the strongest response of a neighbourhood is kept, so the next sees more at once.`,
    panels: ["#attention"],
    act: {
      ask: "Move it by 4 pixels: a filter finds the same edges elsewhere.",
      button: "Move it",
      undo: "Move it back",
      changes: { shift: 4 },
    },
  };
}

/** @param {Subject} subject @returns {Chapter} */
function others({ thing }) {
  return {
    title: "Now another one",
    say: `A Vision Transformer reads the same ${thing} in another way: in patches that look at each other.`,
    panels: [TRAIN, "#decide"],
    act: {
      ask: "Choose one above, or press Train: image by image, every number of a new one moves a little towards the right answers. The page is yours.",
    },
  };
}

/** @param {number} value */
const count = (value) => value.toLocaleString("en");

/**
 * "a 7", but "automobile": names of classes have articles of all kinds.
 * @param {string} answer
 */
const read = (answer) => (/^[0-9]$/.test(answer) ? `${answer === "8" ? "an" : "a"} ${answer}` : answer);
