// Eight steps below the panels, told with the numbers of the reader's own digit and network.

import { argmax, byId, el, keep, percent, setText } from "../dom.js";

export function createStory() {
  const list = byId("story");
  return function render({ model, reading, empty }) {
    if (!model || !reading) return;
    const steps = model.config.arch === "cnn" ? ofCnn(model, reading, empty) : ofVit(model, reading, empty);
    const items = keep(list, steps.length, () => el("li", {}, el("h3"), el("p")));
    steps.forEach(([title, text, panel], i) => {
      const [heading, words] = items[i].children;
      if (heading.textContent !== title) heading.replaceChildren(el("a", { href: `#${panel}` }, title));
      setText(words, text);
    });
  };
}

function ofVit(model, reading, empty) {
  const { config, squares } = model;
  const { embed_dim: width, depth, num_heads: heads, pool, pos_embed: place, head_hidden: hidden } = config.model;
  const count = squares.grid ** 2;
  const has = reading.attention.length > 0 && reading.attention[0].heads > 0;
  const lit = litPatches(reading.image, squares, config.channels);
  const pooled = {
    cls: "One extra token, the class token, has gathered what matters; only it goes on.",
    mean: "The tokens are averaged into one.",
    flatten: `All tokens are laid end to end: ${(count * width).toLocaleString("en")} numbers.`,
  }[pool];
  return [
    ["A picture is numbers", numbers(model), "receives"],
    [
      "Cut into patches",
      `${squares.grid} rows of ${squares.grid}. ${empty ? "Nothing is drawn yet." : `${lit} of ${count} hold ink.`}`,
      "patches",
    ],
    ["Each becomes a token", `One matrix turns the pixels of a patch into ${width} numbers.`, "patches"],
    [
      "Told its place",
      place === "none"
        ? "This network is not told where a patch lay."
        : `${place === "learned" ? "Learned" : "Fixed"} numbers for its place are added; else the order would be lost.`,
      "patches",
    ],
    [
      "Tokens look at each other",
      has
        ? `${depth} times, with ${heads} ${heads === 1 ? "head" : "heads"}: each takes from the others what fits.`
        : "Not in this network: it was trained without attention, and every token stays alone.",
      "attention",
    ],
    [
      "Each thinks for itself",
      "After every look a small two-layer network changes each token, the same one for all places.",
      "decide",
    ],
    ["Gathered into one", pooled, "decide"],
    [
      "Decided",
      `${hidden.length ? "A small network" : "One last matrix"} gives ${decided(model, reading, empty)}`,
      "decide",
    ],
  ];
}

function ofCnn(model, reading, empty) {
  const { config } = model;
  const layers = config.model.cnn_channels.length;
  return [
    ["A picture is numbers", numbers(model), "receives"],
    [
      "Filters slide over it",
      `${config.model.cnn_channels[0]} small filters look for edges and strokes, everywhere alike.`,
      "receives",
    ],
    [
      "Made coarser, again and again",
      `After each of ${layers} layers the strongest answer of each neighbourhood is kept, so the next see more.`,
      "needs",
    ],
    ["Decided", `A last matrix gives ${decided(model, reading, empty)}`, "decide"],
  ];
}

function numbers({ config, squares }) {
  const { mean, std } = config.preprocess;
  const plain = mean.every((m) => m === 0) && std.every((s) => s === 1);
  const what = `${squares.size} × ${squares.size} pixels${config.channels === 3 ? " of three colours" : ""}`;
  return plain
    ? `${what}, from 0 for black to 1.`
    : `${what}, shifted and scaled so that over the training images their mean is 0 and their spread 1.`;
}

function decided({ config }, { probabilities }, empty) {
  const best = argmax(probabilities);
  const yours = empty ? "" : ` Yours: ${config.classes[best]}, ${percent(probabilities[best])}.`;
  return `a number for each of ${config.classes.length} classes; softmax turns them into probabilities.${yours}`;
}

// How many patches have a pixel brighter than a tenth.
function litPatches(image, { grid, side, margin, size }, channels) {
  const lit = new Set();
  for (let y = margin; y < margin + grid * side; y++) {
    for (let x = margin; x < margin + grid * side; x++) {
      if (image[(y * size + x) * channels] > 0.1)
        lit.add(Math.floor((y - margin) / side) * grid + Math.floor((x - margin) / side));
    }
  }
  return lit.size;
}
