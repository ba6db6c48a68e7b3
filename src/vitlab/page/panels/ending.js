// What the story says at the end: the scores, what the answer needed, a summary, and how many patches there could be.

import { argmax, percent } from "../net/numbers.js";
import { cell, words } from "../words.js";
import { lensOf, otherShares, outcome, read, withoutMany } from "./findings.js";
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
    say: `${from}. ${last} them into ${classes.length} scores, ${one}. Softmax turns the scores into shares of 100 %, the probabilities: ${sure} for ${read(answer)}.${earlier(subject)}`,
    panels: ["#answer-card", "#decide"],
    look: "#bars",
    figure: { table: scores(subject) },
    act: {
      ask: `Add noise to the pixels: which ${right}, if any, replaces ${read(answer)}?`,
      button: "Add noise",
      undo: "Remove the noise",
      changes: { noise: 0.3 },
      found: otherShares,
    },
  };
}

/**
 * What the last matrix would say of the tokens before it is their turn.
 * @param {Subject} subject
 */
function earlier(subject) {
  const [start, ...after] = lensOf(subject).slice(0, -1);
  if (start === undefined) return "";
  const stages = after.map((answer, i) => `${answer} after block ${i + 1}`);
  const early = [`${start} before block 1`, ...stages];
  const same = after.length > 0 && after.every((answer) => answer === start);
  const all = same
    ? `${start} before block 1 and still ${start} after block ${after.length}`
    : [early.slice(0, -1).join(", "), early.at(-1)].filter(Boolean).join(" and ");
  return ` If it read the tokens earlier, which it was not trained for, it would say ${all}.`;
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

/** @param {Subject} subject @returns {Chapter} */
export function ending({ model, reading, thing, answer }) {
  const { classes, model: shape } = model.config;
  const { tokens } = model.views;
  const sure = percent(Math.max(...reading.probabilities));
  const last = shape.head_hidden.length ? "The last matrices" : "The last matrix";
  const decides = `${last} and softmax made ${classes.length} probabilities: ${sure} for ${read(answer)}.`;
  const more = tokens
    ? otherSizes(model)
    : `A Vision Transformer reads the same ${thing} in another way: in patches that look at each other.`;
  const choose = tokens ? "Press Train" : "Choose a Vision Transformer above, or press Train";
  return {
    title: "In short",
    at: null,
    say: `${tokens ? tokensSaid(model) : filtersSaid(model)} ${decides} ${more}`,
    grids: tokens,
    panels: [TRAIN, "#decide"],
    look: ".knob",
    act: {
      ask: `${choose}: a new network reads images, finds for each weight which way its answers become less wrong, and moves all a little that way.`,
    },
  };
}

/** @param {Loaded} model */
function otherSizes({ views }) {
  const pairs = views.attention ? "four times as many make 16 times as many pairs" : "there are more of them";
  return `Smaller patches than these (framed) show finer detail, but ${pairs}.`;
}

/** @param {Loaded} model */
function tokensSaid(model) {
  const { depth, embed_dim: width, pos_embed: form, pool } = model.config.model;
  const { size, grid } = model.squares;
  const mixes = mixesOf(model);
  const place = model.views.mixing || form === "none" ? "" : ", plus numbers for its place";
  const exchange =
    mixes === "attention" ? "took from each other what matched (attention)" : mixes ? "were mixed" : null;
  const many = depth === 1 ? "In one block" : `In ${depth} blocks`;
  const work = exchange
    ? `${many}, they ${exchange}, and each was worked on (MLP).`
    : `${many}, each was worked on (MLP).`;
  const pools = { cls: " The class token gathered what counts.", mean: " Their mean was taken.", flatten: "" };
  return `${counted(size ** 2 * model.config.channels)} pixel values became ${grid ** 2} patches, each a token of ${width} numbers${place}. ${work}${pools[pool]}`;
}

/** @param {Loaded} model */
function filtersSaid({ config }) {
  const layers = config.model.cnn_channels.length;
  return `Small filters slid over the pixels${layers > 1 ? ` in ${layers} layers` : ""}, and the strongest responses were kept.`;
}
