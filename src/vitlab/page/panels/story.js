// The steps of a reading, below the panels, with the numbers of the user's own digit and network.

import { byId, childrenOf, el, keep, setText } from "../dom.js";
import { argmax, percent } from "../net/numbers.js";

/** @import { View } from "../main.js" */
/** @import { Squares } from "../net/model.js" */
/** @import { Shown } from "../reader.js" */
/** @import { Loaded } from "../net/worker.js" */
/** @typedef {[string, string, string]} Step  title, text, and the id of the panel that shows it */

export function createStory() {
  const list = byId("story");
  /** @param {View} view */
  return function render({ model, reading, empty }) {
    if (!model || !reading) return;
    const steps = model.views.tokens ? stepsOfTokens(model, reading, empty) : stepsOfFilters(model, reading, empty);
    const items = keep(list, steps.length, () => el("li", {}, el("h3"), el("p")));
    steps.forEach(([title, text, panel], i) => {
      const [heading, words] = childrenOf(items[i]);
      if (heading.textContent !== title) heading.replaceChildren(el("a", { href: `#${panel}` }, title));
      setText(words, text);
    });
  };
}

/**
 * @param {Loaded} model @param {Shown} reading @param {boolean} empty
 * @returns {Step[]}
 */
function stepsOfTokens(model, reading, empty) {
  const { config, squares, views } = model;
  const { embed_dim: width, depth, num_heads: heads, pool, pos_embed: position, head_hidden: hidden } = config.model;
  const count = squares.grid ** 2;
  const ink = empty ? "Nothing is drawn yet." : `${inked(reading.image, squares, config.channels)} contain ink.`;
  const positions = {
    learned: "Learned numbers for the position are added; without them the order would be lost.",
    sincos: "Fixed numbers for the position are added; without them the order would be lost.",
    none: "Not in this network: it does not know where a patch was.",
  };
  const blocks = `${depth} ${depth === 1 ? "block" : "blocks"} of ${heads} ${heads === 1 ? "head" : "heads"}`;
  const looks = views.attention
    ? `In ${blocks}, each token takes what is useful to it from the others.`
    : "Not in this network: it was trained without attention, so every token stays on its own.";
  const pooled = {
    cls: "One extra token, the class token, has collected what matters; only it is used from here on.",
    mean: "The tokens are averaged into one.",
    flatten: `All tokens are joined end to end: ${(count * width).toLocaleString("en")} numbers.`,
  };
  const head = hidden.length ? "A small network" : "A last matrix";
  return [
    ["A picture is numbers", numbers(model), "receives"],
    ["Cut into patches", `${squares.grid} rows of ${squares.grid}. ${ink}`, "patches"],
    ["Each becomes a token", `One matrix turns the pixels of a patch into ${width} numbers.`, "patches"],
    ["Given its position", positions[position], "patches"],
    ["Tokens look at each other", looks, "attention"],
    ["Each is refined", "In each block, a small two-layer network updates every token, the same for all.", "decide"],
    ["Combined into one", pooled[pool], "decide"],
    ["Decided", `${head} gives ${decided(model, reading, empty)}`, "decide"],
  ];
}

/**
 * @param {Loaded} model @param {Shown} reading @param {boolean} empty
 * @returns {Step[]}
 */
function stepsOfFilters(model, reading, empty) {
  const [first, ...more] = model.config.model.cnn_channels;
  const layers = more.length ? `each of ${1 + more.length} layers` : "the layer";
  return [
    ["A picture is numbers", numbers(model), "receives"],
    [
      "Filters slide over it",
      `${first} small filters look for edges and strokes, the same way everywhere.`,
      "receives",
    ],
    [
      "Made coarser, step by step",
      `After ${layers} only the strongest response in each neighbourhood is kept, and the next step sees more.`,
      "needs",
    ],
    ["Decided", `A last matrix gives ${decided(model, reading, empty)}`, "decide"],
  ];
}

/** @param {Loaded} model */
function numbers({ config, squares }) {
  const { mean, std } = config.preprocess;
  const plain = mean.every((m) => m === 0) && std.every((s) => s === 1);
  const what = `${squares.size} × ${squares.size} pixels${config.channels === 3 ? " in three colours" : ""}`;
  if (plain) return `${what}, from 0 for black to 1.`;
  return `${what}, shifted and scaled to mean 0 and standard deviation 1 over the training images.`;
}

/** @param {Loaded} model @param {Shown} reading @param {boolean} empty */
function decided({ config }, { probabilities }, empty) {
  const best = argmax(probabilities);
  const yours = empty ? "" : ` Yours: ${config.classes[best]}, ${percent(probabilities[best])}.`;
  return `a number for each of ${config.classes.length} classes; softmax turns them into probabilities.${yours}`;
}

/**
 * How many patches have a pixel brighter than a tenth: "7 of 16".
 * @param {Float32Array} image @param {Squares} squares @param {number} channels
 */
function inked(image, { grid, side, margin, size }, channels) {
  const found = new Set();
  for (let y = margin; y < margin + grid * side; y++) {
    for (let x = margin; x < margin + grid * side; x++) {
      if (image[(y * size + x) * channels] <= 0.1) continue;
      found.add(Math.floor((y - margin) / side) * grid + Math.floor((x - margin) / side));
    }
  }
  return `${found.size} of ${grid ** 2}`;
}
