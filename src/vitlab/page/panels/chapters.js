// What the story says, step by step, with the numbers of the user's own drawing and network.

import { brightest, withInk } from "../ink.js";
import { argmax, percent } from "../net/numbers.js";
import { capital, cell, words } from "../words.js";
import { number } from "./vector.js";

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
const OPENED = "#inside > .card";
const VECTOR = "#inside-steps:not([hidden]) > :nth-child(2)"; // of an opened patch

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
  const what =
    colours > 1 ? "how red, green and blue each pixel is" : "how bright each pixel is, from 0 for black to 1 for white";
  return {
    title: `Your ${thing}`,
    say: `You see a ${thing}. The network gets only numbers, ${many} = ${count(size * size * colours)} of them: ${what}.`,
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
function tokens({ model, reading, one }) {
  const { squares, config } = model;
  const { patch_overlap: overlap, embed_dim: width } = config.model;
  const pixels = (squares.side + 2 * overlap) ** 2 * config.channels;
  const opened = reading.place?.patch === one ? reading.opened : null;
  const own = `its ${squares.side} × ${squares.side} pixels`;
  const from = overlap
    ? `${own} and ${overlap} more on every side, ${count(pixels)} numbers,`
    : `${own}, ${count(pixels)} numbers,`;
  const first = opened ? ` (${Array.from(opened.embedded).slice(0, 3).map(number).join(", ")}, …)` : "";
  const around = overlap ? " and its neighbours, which see its edge" : "";
  return {
    title: "Each patch becomes a token",
    say: `Patch ${one + 1}, for example: from ${from} the network computes ${width} others${first}. Each is the sum of all pixels, each times a weight that was learned from examples (a matrix of weights). These ${width} numbers, e in the panel, are the token.`,
    panels: [OPENED],
    shows: { query: one },
    act: {
      ask: `Turn patch ${one + 1} black: its token changes${around}; all others stay.`,
      button: `Turn patch ${one + 1} black`,
      undo: "Show it again",
      changes: { hidden: [one] },
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
  const sum = `: e + position ${one + 1} = x.`;
  const how = model.views.mixing ? MIXED : ADDED[form] + (form === "none" ? "" : sum);
  return {
    title: model.views.mixing ? "Every place counts" : "Its position is added",
    say: `A token does not say where its patch was, but a line at the top means something else than one at the bottom. ${how}`,
    panels: [VECTOR, "#patches"],
    shows: { query: one },
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
  const { depth, attn_form: form } = model.config.model;
  const all = model.squares.grid ** 2;
  const other = one === all - 1 ? 0 : all - 1;
  const asks =
    form === "qkv"
      ? "asks a question (its query) and compares it with what every token offers (its key)"
      : "compares itself with every token";
  const each = heads > 1 ? `${heads} heads, which ask for different things` : "";
  const many = depth > 1 ? `This happens in ${depth} blocks, one after the other${each && `, each with ${each}`}.` : "";
  const times = many || (each && `The block has ${each}.`);
  return {
    title: "Tokens look at each other",
    say: `Each token (here that of the framed patch) ${asks}. The matches become shares of 100 % (softmax), and it takes in that share of each token: much of a red patch, little of a blue one. ${times}`,
    panels: ["#attention"],
    shows: { query: one },
    act: {
      ask: `And patch ${other + 1}, in the corner: where does it look?`,
      button: `Look from patch ${other + 1}`,
      undo: `Look from patch ${one + 1} again`,
      changes: { query: other },
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
  const [start, ...after] = reading.lens.map((probabilities) => classes[argmax(probabilities)]);
  const way = after.length
    ? ` Stopped before ${depth === 1 ? "it" : "the first"}, the network would say ${start}; after ${depth === 1 ? "it" : "each of them"}: ${after.join(", ")}.`
    : "";
  const many = depth === 1 ? "This network has one block." : `${depth} such blocks follow each other.`;
  return {
    title: "Block after block",
    say: `After ${model.views.mixing ? "the mixing" : "attention"}, a small network reworks each token alone, and both results are added to the token: that is a block. ${many}${way}`,
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
  cls: "one extra token, which has collected what matters",
  mean: "the average of all tokens",
  flatten: "all tokens together",
};

/** @param {Subject} subject @returns {Chapter} */
function head({ model, reading, answer }) {
  const { classes } = model.config;
  const from = model.views.tokens ? POOLED[model.config.model.pool] : "what the filters found";
  const sure = percent(Math.max(...reading.probabilities));
  return {
    title: "The head decides",
    say: `From ${from}, a last matrix of learned weights computes a score for each of ${classes.length} classes, and softmax turns the scores into shares of 100 %, the probabilities: ${sure} for ${read(answer)}.`,
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
    points > 0 ? `, most without ${name} ${one + 1}, by ${points} ${points === 1 ? "point" : "points"}` : "";
  const looked = model.views.attention ? "Where it looked is not yet what it needed. To" : "What did it need? To";
  return {
    title: "What it needed",
    say: `${looked} find that, each ${name} alone is turned black: the probability of ${read(answer)} falls (red)${worst}.`,
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
