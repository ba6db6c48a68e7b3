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
    colours > 1 ? "how red, green and blue each pixel is" : "how bright each pixel is, from 0 (black) to 1 (white)";
  const params = model.config.params ? `${count(model.config.params)} numbers` : "numbers";
  const some = colours > 1 ? "" : middleOf(reading.image, size);
  return {
    title: `Your ${thing}`,
    at: "pixels",
    say: `You see a ${thing}. The network, a long calculation with ${params} that it learned from examples, sees only numbers: ${many} = ${count(size * size * colours)} of them, which say ${what}.${some}`,
    panels: ["#draw-card"],
    act: {
      ask:
        thing === "picture" ? "Open another one, or draw over it." : "Draw another one, and watch the answer follow.",
    },
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
    : ` In the middle row of yours: …, ${Array.from(row.slice(from, from + 4), number).join(", ")}, …`;
}

/** @param {Subject} subject @returns {Chapter} */
function receives({ model, thing, answer }) {
  const { config } = model;
  const pixels = `${config.preprocess.image_size} × ${config.preprocess.image_size} pixels`;
  if (config.drawing === null) {
    return {
      title: "What it receives",
      at: "pixels",
      say: `The whole picture is scaled to the size of those that the network was trained on: ${pixels}.`,
      panels: ["#receives"],
      act: { ask: "From the last picture here, could you still tell what it is?" },
    };
  }
  return {
    title: "What it receives",
    at: "pixels",
    say: `The ${thing}s that it learned from were 20 pixels long, in the middle of ${pixels}. So yours is cut out, scaled to 20 pixels and moved to the middle, too. The last picture is all that the network gets to see.`,
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
    say: `${model.views.mixing ? "An MLP-Mixer" : "A Vision Transformer"} cuts the picture into ${grid} × ${grid} = ${grid ** 2} patches of ${side} × ${side} pixels${inked}. From here on, it works with whole patches.`,
    panels: ["#patches"],
    act: {
      ask: `Follow patch ${one + 1} through the next steps.`,
      button: `Follow patch ${one + 1}`,
      undo: "Let it go",
      changes: { query: one },
      found: () =>
        `Patch ${one + 1} is now framed in the grid, in the row of tokens below it, and in every other panel.`,
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
  const from = `the ${count(pixels)} numbers of ${own}${overlap ? ` and ${overlap} more on every side` : ""}`;
  const numbers = firstOf(subject);
  const first = numbers ? ` (${numbers})` : "";
  const bias = model.config.model.linear_bias ? ", plus one more number, b" : "";
  const around = overlap ? " and those of its neighbours, which see its edge, change" : " changes";
  return {
    title: "A patch becomes a token",
    at: "tokens",
    say: `Patch ${one + 1}, for example: from ${from}, the network computes ${width} new ones, its token e${first}. Each is a sum: every pixel times a learned weight (together, the matrix W)${bias}.`,
    panels: [OPENED],
    shows: { query: one },
    act: {
      ask: `Turn patch ${one + 1} black: only its token${around}.`,
      button: `Turn patch ${one + 1} black`,
      undo: "Show it again",
      changes: { hidden: [one] },
      found: otherToken,
    },
  };
}

const MIXED = "So the next step has learned weights for each place, and nothing is added to the tokens.";
const ADDED = {
  learned: "So to each token, the network adds numbers that it has learned for that place",
  sincos: "So to each token, the network adds waves of sine and cosine, different ones for each place",
  none: "This network adds nothing that says where a patch was, so it has to do without.",
};

/** @param {Subject} subject @returns {Chapter} */
function position({ model, thing, answer, one }) {
  const form = model.config.model.pos_embed;
  const added = !model.views.mixing && form !== "none";
  const sum = `: e + position ${one + 1} = x. From now on, “token” means x.`;
  const how = model.views.mixing ? MIXED : ADDED[form] + (added ? sum : "");
  return {
    title: model.views.mixing ? "Every place counts" : added ? "Its position is added" : "No position is added",
    at: added ? "position" : "tokens",
    say: `A token does not say where its patch was, but a line at the top means something different from one at the bottom. ${how}`,
    panels: added ? [VECTOR, "#patches"] : ["#patches"],
    shows: { query: one },
    act: added
      ? {
          ask: `Leave out the positions and nothing else: is it still ${read(answer)}?`,
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
      ? "From each token, learned matrices compute a query (what it looks for), a key (what it offers) and a value (what it passes on)."
      : "From each token, a learned matrix computes a query (what it looks for); the tokens themselves serve as keys (what it is compared with) and as values (what is passed on).";
  const where = depth > 1 ? `Each of ${depth} blocks` : "The block";
  const many =
    heads > 1
      ? ` ${where} has ${heads} such heads with matrices of their own; one more matrix joins what they take in.`
      : ` ${where} has one such head.`;
  return {
    title: "Tokens look at each other",
    at: "mix",
    say: `${lists} ${matches(subject)} The token takes in that share of each value.${many}`,
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
  const even = `an even share: 1/${all} = ${percent(1 / all)}`;
  const { attention: opened } = reading.opened ?? {};
  if (!opened || !reading.place) {
    return `Query times key, added up, is how well they match. Softmax (e to the power of each match, divided by the sum of all) turns the matches into shares of 100 % (${even}).`;
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
    ? "number times number, added up and scaled, plus a number learned for that pair of places"
    : "number times number, added up and scaled";
  return `In block ${block + 1}, head ${which + 1}, the query of patch ${patch + 1} matches ${well} best (${high}) and ${badly} least (${low}): ${products}. Softmax (e to the power of each match, divided by the sum of all) turns the matches into shares of 100 %, here ${percent(shares[most])} and ${percent(shares[least])} (${even}).`;
}

/** @param {Subject} subject @returns {Chapter} */
function mixing({ model, answer }) {
  return {
    title: "Tokens are mixed",
    at: "mix",
    say: `Each token takes in a part of each of the ${model.squares.grid ** 2} tokens, number by number. How much it takes was learned for every pair of places; unlike attention, this does not depend on what you draw.`,
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
function blocks(subject) {
  const { model, thing } = subject;
  const { mixing: mixes, attention: attends } = model.views;
  const { depth, act } = model.config.model;
  const [start, ...after] = lensOf(subject);
  const last = depth === 1 ? "after it" : `after ${depth === 2 ? "blocks 1 and 2" : `blocks 1 to ${depth}`}`;
  const way = after.length
    ? ` If the last matrix (next step) read the tokens early, it would say ${start} before ${depth === 1 ? "the block" : "the first block"} and ${after.join(", ")} ${last}.`
    : "";
  const many = depth === 1 ? "This network has one." : `This network has ${depth} of them, one after the other.`;
  const zero = act === "relu2" ? "0" : "almost 0";
  const mlp = `a small network (an MLP, multi-layer perceptron: two matrices, between which negative numbers become ${zero}) works on each token alone`;
  const sums =
    mixes || attends ? `what ${mixes ? "mixing" : "attention"} took in and what the MLP computed are` : "the result is";
  const then = mixes || attends ? `After ${mixes ? "mixing" : "attention"}, ${mlp}` : `In a block, ${mlp}`;
  return {
    title: "Block after block",
    at: "mlp",
    say: `${then}. ${capital(sums)} added to the token${mixes || attends ? ": that is a block" : ""}. ${many}${way}`,
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
    return `The class token, an extra one that belongs to no patch and has gathered what matters, has ${width} numbers`;
  if (pool === "mean") return `The mean of all ${all} tokens, number by number, has ${width} numbers`;
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
  const last = model.config.model.head_hidden.length ? "The last matrices turn" : "The last matrix turns";
  return {
    title: "The last matrix decides",
    at: "scores",
    say: `${from}. ${last} them into ${classes.length} scores, ${one}, which are again sums with learned weights. Softmax turns the scores into shares of 100 %, the probabilities: ${sure} for ${read(answer)}.`,
    panels: ["#answer-card", "#decide"],
    act: {
      ask: `Add noise to the pixels: which answer gains what ${read(classes[best])} loses?`,
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
    points > 0 ? ` It falls most without ${name} ${most + 1}, by ${points} ${points === 1 ? "point" : "points"}.` : "";
  const looked = model.views.attention ? "Where it looked need not be what it needed." : "What did it need?";
  const several = least.length > 1;
  const hide = several ? `these ${least.length} ${name === "patch" ? "patches" : "squares"}` : `${name} ${one + 1}`;
  const inked = words(model.config).draws ? " with ink" : "";
  return {
    title: "What it needed",
    at: "answer",
    say: `${looked} To find out, each ${name} is turned black, one at a time, and the network reads again: the probability of ${read(answer)} falls (red) or rises (blue).${worst}`,
    panels: ["#needs"],
    act: {
      ask: several
        ? `Now several at once: of the ${name === "patch" ? "patches" : "squares"}${inked}, the half that it needs least. Is it still ${read(answer)}?`
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
    say: `${capital(String(first))} small filters, learned from examples, look for edges and strokes, in the same way everywhere. ${layers}, only the strongest response in each neighbourhood is kept${more.length ? ", so the next layer sees more at once" : ""}.`,
    panels: ["#attention"],
    act: {
      ask: "Move it 4 pixels to the right: the filters find the same edges there.",
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
    title: "Now try another one",
    at: null,
    say: `A Vision Transformer reads the same ${thing} in another way: in patches that look at each other.`,
    panels: [TRAIN, "#decide"],
    act: { ask: `Choose one above, or press Train: ${LEARNS}` },
  };
}

/** @param {number} value */
const count = (value) => value.toLocaleString("en");
