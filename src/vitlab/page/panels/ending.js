// What the story says at the end: the scores, what the answer needed, how many patches there could be, and a summary.

import { argmax, percent } from "../net/numbers.js";
import { cell, words } from "../words.js";
import { otherShares, outcome, read, withoutMany } from "./findings.js";
import { mixesOf } from "./inner.js";
import { amount, shareOf } from "./sums.js";
import { counted, number } from "./vector.js";

/** @import { Loaded } from "../net/worker.js" */
/** @import { Chapter, Subject } from "./chapters.js" */

const TRAIN = "#train > .card";
const SHOWN = 3; // classes whose scores are shown

/** @param {Loaded} model */
function pooled({ config, squares }) {
  const { pool, embed_dim: width } = config.model;
  const all = squares.grid ** 2;
  if (pool === "cls")
    return `The class token, an extra one that belongs to no patch and has gathered what matters, has ${width} numbers`;
  if (pool === "mean") return `The mean of all ${all} tokens, number by number, has ${width} numbers`;
  return `All ${all} tokens side by side are ${all} × ${width} = ${counted(all * width)} numbers (a usual ViT takes a class token or their mean)`;
}

/** @param {Subject} subject @returns {Chapter} */
export function head(subject) {
  const { model, reading, answer } = subject;
  const { classes } = model.config;
  const from = model.views.tokens
    ? `The tokens are normalised once more. ${pooled(model)}`
    : "What the filters found is a list of numbers";
  const { thing, digits } = words(model.config);
  const one = digits ? "one for each digit from 0 to 9" : `one for each of ${classes.length} classes`;
  const sure = percent(Math.max(...reading.probabilities));
  const last = model.config.model.head_hidden.length ? "The last matrices turn" : "The last matrix turns";
  const right = thing === "digit" ? "digit" : "class";
  return {
    title: "The last matrix decides",
    at: "scores",
    say: `${from}. ${last} them into ${classes.length} scores, ${one}. Softmax turns the scores into shares of 100 %, the probabilities: ${sure} for ${read(answer)}. Training nudges every learned number so that the error shrinks: how far the probability of the right ${right} is from its target.`,
    panels: ["#answer-card", "#decide"],
    look: "#bars",
    figure: { table: scores(subject) },
    act: {
      ask: `Add noise to the pixels: which ${right}, if any, takes over from ${read(answer)}?`,
      button: "Add noise",
      undo: "Remove the noise",
      changes: { noise: 0.3 },
      found: otherShares,
    },
  };
}

/**
 * From score to share, for the most probable classes.
 * @param {Subject} subject
 */
function scores({ model, reading }) {
  const { classes } = model.config;
  const { logits, probabilities } = reading;
  const order = Array.from(logits, (_, i) => i).sort((a, b) => probabilities[b] - probabilities[a]);
  const rows = order.slice(0, SHOWN).map((index) => {
    const { power, share } = shareOf(logits, index);
    return [classes[index], number(logits[index]), amount(power), percent(share)];
  });
  const all = amount(shareOf(logits, 0).total);
  return [
    [words(model.config).digits ? "digit" : "class", "score", "2.718^score", "share"],
    ...rows,
    [`all ${classes.length}`, "", all, percent(1)],
  ];
}

/** @param {Subject} subject @returns {Chapter} */
export function needed({ model, answer, one, falls, least, inked: matter }) {
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
        ? `Now several at once: the ${least.length} of ${matter} ${name === "patch" ? "patches" : "squares"}${inked} that it needs least. Is it still ${read(answer)}?`
        : `Hide ${hide}: is it still ${read(answer)}?`,
      button: `Hide ${hide}`,
      undo: several ? "Show them again" : "Show it again",
      changes: { hidden: several ? least : [one] },
      found: several ? withoutMany : outcome,
    },
  };
}

const LEARNS =
  "after each batch of images, every learned number moves a little in the direction in which the error shrinks.";

/** @param {Subject} subject @returns {Chapter} */
export function sizes({ model }) {
  const pairs = model.views.attention
    ? "; as every patch looks at every patch, twice as many patches make four times as many pairs"
    : "";
  return {
    title: "How many patches?",
    at: null,
    say: `Smaller patches than this network's (framed) would show finer detail, but there would be more of them${pairs}: usually more accurate, always slower.`,
    grids: true,
    panels: [TRAIN, "#decide"],
    look: ".knob",
    act: { ask: `Choose a patch size and press Train: ${LEARNS}` },
  };
}

/** @param {Subject} subject @returns {Chapter} */
export function others({ thing }) {
  return {
    title: "Another way to read",
    at: null,
    say: `A Vision Transformer reads the same ${thing} in another way: in patches that look at each other.`,
    panels: [TRAIN, "#decide"],
    look: ".knob",
    act: { ask: `Choose one above, or press Train: ${LEARNS}` },
  };
}

/** @param {Subject} subject @returns {Chapter} */
export function summary({ model, reading, thing, answer }) {
  const { classes, channels } = model.config;
  const sure = percent(Math.max(...reading.probabilities));
  const numbers = counted(model.squares.size ** 2 * channels);
  const { head_hidden: hidden } = model.config.model;
  const last = hidden.length ? "The last matrices make" : "The last matrix makes";
  const middle = model.views.tokens ? tokensSaid(model) : filtersSaid(model);
  return {
    title: "In short",
    at: null,
    say: `Your ${thing} became ${numbers} numbers. ${middle} ${last} ${classes.length} scores of this, and softmax turns them into probabilities: ${sure} for ${read(answer)}. Every weight on this path was learned from examples. The line above is the whole path from pixels to answer.`,
    panels: ["#answer-card", "#decide"],
    look: "#bars",
    act: { ask: `Now the page is yours: every number changes with the next ${thing}.` },
  };
}

/** @param {Loaded} model */
function tokensSaid(model) {
  const { depth, embed_dim: width, pos_embed: form, pool } = model.config.model;
  const mixes = mixesOf(model);
  const place = model.views.mixing || form === "none" ? "" : ", to which numbers for its place were added";
  const exchange =
    mixes === "attention" ? "took from each other what matched (attention)" : mixes ? "were mixed" : null;
  const many = depth === 1 ? "In one block" : `In ${depth} blocks`;
  const work = exchange
    ? `${many}, the tokens ${exchange}, and each was worked on alone (MLP).`
    : `${many}, each token was worked on alone (MLP).`;
  const pools = {
    cls: "the class token has gathered what counts",
    mean: "their mean is taken",
    flatten: "all of them count",
  };
  return `They were cut into ${model.squares.grid ** 2} patches, and each patch became a token of ${width} numbers${place}. ${work} At the end, ${pools[pool]}.`;
}

/** @param {Loaded} model */
function filtersSaid({ config }) {
  const layers = config.model.cnn_channels.length;
  return `Small filters slid over them${layers > 1 ? ` in ${layers} layers` : ""}, and the strongest responses were kept.`;
}
