// "No, this is a 3": wrong answers are collected, taught to a copy of the network, and can be taken along.

import { byId, el, keep, part, picture, setAttribute, setText, surface } from "../dom.js";
import { saveFile, saveNetwork } from "../downloads.js";
import { toNpz } from "../learn/npz.js";
import { percent } from "../net/numbers.js";
import { lessonFor, startTeaching } from "../teaching.js";

/** @import { View } from "../main.js" */
/** @import { Config } from "../net/config.js" */
/** @import { Loaded } from "../net/worker.js" */
/** @import { Scores, Shown } from "../learn/correction.js" */
/** @import { Store } from "../state.js" */
/**
 * kind: of networks that it can be taught to. image: as the network received it, [side, side, C].
 * @typedef {{ kind: string, image: Uint8Array, side: number, label: number }} Correction
 * @typedef {{ base: string, config: any, weights: ArrayBuffer, words: [string, string, string][], say: string }} Made
 */

const THUMB = 44;
const MOST = 200; // corrections

/** @param {ArrayLike<number>} a @param {ArrayLike<number>} b */
const same = (a, b) => a.length === b.length && Array.from(a).every((value, i) => value === b[i]);

/** @param {Config} config */
const kindOf = ({ classes, channels, drawing }) => JSON.stringify([classes, channels, drawing]);

/**
 * weightsOf(id): the bytes of a network's weights. use: puts a network into the menu, chooses it and returns its id.
 * @param {Store} store @param {(id: string) => Promise<ArrayBuffer>} weightsOf
 * @param {(config: any, weights: ArrayBuffer, name: string) => Promise<string | null>} use
 */
export function createCorrect(store, weightsOf, use) {
  const [undo, teach, back, saveIt, saveThem] = ["undo", "teach", "back", "save", "save-npz"].map((name) =>
    byId(`correct-${name}`, HTMLButtonElement),
  );
  const now = byId("correct-now");
  /** @type {Correction[]} */
  let list = [];
  /** @type {Correction[][]} */
  const earlier = [];
  /** @type {Map<string, Made>} */
  const made = new Map(); // by the id of the corrected network
  /** @type {Map<string, Loaded>} */
  const originals = new Map(); // what was corrected, by id
  /** @type {{ base: string, stop: () => void } | null} */
  let teaching = null;
  /** @type {View | null} */
  let last = null;

  /** The network that learns: what was corrected here is taught anew from its original. */
  const baseId = () => made.get(last?.model?.model ?? "")?.base ?? last?.model?.model ?? null;
  const here = () => {
    const kind = last?.model ? kindOf(last.model.config) : null;
    return list.filter((one) => one.kind === kind);
  };

  /** @param {Correction[]} next */
  function change(next) {
    earlier.push(list);
    list = next;
    show();
  }

  /** @param {number} label */
  function add(label) {
    if (!last?.model || !last.reading || last.empty) return setText(now, "There is no drawing to correct yet.");
    const { reading, model } = last;
    const { placed, side } = reading.steps;
    const kind = kindOf(model.config);
    const others = list.filter((one) => one.kind !== kind || !same(one.image, placed)); // said again: the last word counts
    if (others.length >= MOST) return setText(now, `There are ${MOST} corrections already: remove one first.`);
    change([...others, { kind, image: Uint8Array.from(placed), side, label }]);
    setText(now, `Noted: this is ${model.config.classes[label]}.`);
  }

  async function begin() {
    const base = baseId();
    const original = base === null ? null : (originals.get(base) ?? last?.model);
    if (base === null || !original) return;
    originals.set(base, original);
    const mine = { base, stop: () => {} };
    teaching = mine;
    setText(now, "Loading the images that it knows ...");
    show();
    try {
      const [weights, lesson] = await Promise.all([weightsOf(base), lessonFor(original.config)]);
      if (teaching !== mine) return;
      const examples = examplesOf(original);
      if (lesson === null && examples === null)
        throw new Error("This page has no images that this network knows, so it would forget what it learned.");
      const some = here();
      const corrections = {
        images: some.map(({ image }) => image),
        labels: some.map(({ label }) => label),
        side: some[0].side,
      };
      const started = performance.now();
      const { taught, stop } = startTeaching(
        { config: original.config, weights, corrections, examples, lesson },
        (step, steps) => setText(now, `Learning: step ${step} of ${steps}.`),
      );
      mine.stop = stop;
      const result = await taught;
      const seconds = (performance.now() - started) / 1000;
      const { config } = original;
      const name = `${config.name}, corrected`;
      const copy = { ...config, name, corrected: config.name, ...UNKNOWN };
      teaching = null;
      const id = await use(copy, result.weights, name);
      if (id === null) return;
      made.set(id, {
        base,
        config: copy,
        weights: result.weights,
        words: table(result.before, result.after, result.measured),
        say: `Taught ${some.length} in ${seconds.toFixed(0)} s.`,
      });
      setText(now, /** @type {Made} */ (made.get(id)).say);
    } catch (error) {
      if (teaching !== mine && teaching !== null) return;
      setText(now, error instanceof Error ? error.message : String(error));
    } finally {
      if (teaching === mine) teaching = null;
      show();
    }
  }

  function halt() {
    teaching?.stop();
    teaching = null;
    setText(now, "Stopped: the network is as it was.");
    show();
  }

  undo.addEventListener("click", () => {
    list = earlier.pop() ?? [];
    show();
  });
  teach.addEventListener("click", () => (teaching ? halt() : begin()));
  back.addEventListener("click", () => {
    setText(now, "This is the original network again.");
    store.set({ model: baseId() });
  });
  saveIt.addEventListener("click", () => {
    const one = made.get(last?.model?.model ?? "");
    if (one) saveNetwork(one.config, one.weights);
  });
  saveThem.addEventListener("click", () => {
    const some = here();
    if (!last?.model || !some.length) return;
    const { classes, channels } = last.model.config;
    const file = toNpz(
      some.map(({ image }) => image),
      some.map(({ label }) => label),
      classes,
      some[0].side,
      channels,
    );
    saveFile(file, "corrections.npz");
  });

  function show() {
    const model = last?.model;
    if (!model) return;
    const why = whyNot(model.config);
    setText(
      byId("correct-say"),
      why ?? "Say what the drawing is. When you have a few corrections, teach them to a copy of the network.",
    );
    byId("correct-panel").hidden = why !== null;
    if (why !== null) return;
    const { classes, channels } = model.config;
    const buttons = keep(byId("correct-labels"), classes.length, (i) =>
      el("button", { type: "button", onclick: () => add(i) }),
    );
    buttons.forEach((button, i) => {
      setText(button, classes[i]);
    });
    const some = here();
    const items = keep(byId("correct-list"), some.length, () => {
      const button = el("button", { type: "button" }, el("canvas", { "aria-hidden": "true" }), el("span"));
      return el("li", {}, button);
    });
    items.forEach((item, i) => {
      const { image, side, label } = some[i];
      const button = part(item, "button");
      button.onclick = () => change(list.filter((one) => one !== some[i]));
      setAttribute(button, "aria-label", `Remove correction ${i + 1}: ${classes[label]}`);
      setAttribute(button, "title", "Remove");
      setText(part(item, "span"), classes[label]);
      paint(part(item, "canvas"), image, side, channels);
    });
    const done = made.get(model.model);
    undo.disabled = earlier.length === 0 || teaching !== null;
    teach.disabled = teaching === null && some.length === 0;
    setText(teach, teaching ? "Stop" : `Teach ${some.length === 1 ? "it" : some.length || "them"}`);
    back.disabled = saveIt.disabled = done === undefined;
    saveThem.disabled = some.length === 0;
    byId("correct-after").hidden = done === undefined;
    for (const [i, words] of (done?.words ?? []).entries()) fill(keep(byId("correct-table"), 3, row)[i], words);
    byId("correct-command").hidden = some.length === 0;
    setText(byId("correct-line"), command(originals.get(baseId() ?? "")?.config ?? model.config));
  }

  /** @param {View} view */
  return function render(view) {
    const before = last;
    last = view;
    if (teaching && baseId() !== teaching.base) halt();
    if (before?.model !== view.model) show();
  };
}

const UNKNOWN = {
  sha256: null,
  novelty: null,
  test_top1: null,
  test_top1_interval: null,
  test_images: null,
  metrics: [],
};

/**
 * Why this network cannot be taught here; null if it can.
 * @param {Config} config
 */
function whyNot({ model }) {
  return model.arch === "vit" ? null : "This page can teach only Vision Transformers, so this network stays as it is.";
}

/**
 * @param {Loaded} network
 * @returns {Shown | null}
 */
function examplesOf({ examples }) {
  const places = (examples?.labels ?? []).flatMap((label, i) => (label === null ? [] : [i]));
  if (!examples || places.length < 2) return null;
  return {
    images: places.map((i) => examples.images[i]),
    labels: places.map((i) => /** @type {number} */ (examples.labels[i])),
    side: examples.side,
  };
}

/**
 * What, before and after.
 * @param {Scores} before @param {Scores} after @param {number} measured
 * @returns {[string, string, string][]}
 */
function table(before, after, measured) {
  return [
    ["Your corrections, right", percent(before.corrections.accuracy), percent(after.corrections.accuracy)],
    [
      `${measured.toLocaleString("en")} other known images, right`,
      percent(before.known.accuracy),
      percent(after.known.accuracy),
    ],
    ["Loss on these", before.known.loss.toFixed(3), after.known.loss.toFixed(3)],
  ];
}

const row = () => el("tr", {}, el("th", { scope: "row" }), el("td"), el("td"));

/** @param {HTMLElement} line @param {string[]} words */
function fill(line, words) {
  words.forEach((word, i) => {
    setText(line.children[i], word);
  });
}

/** @param {Config} config */
function command({ name, data }) {
  return `vitlab train --init-from ${name} --data corrections.npz --rehearse ${data ?? "DATA"}:0.99 --init-lr-scale 0.1`;
}

/** @param {HTMLCanvasElement} canvas @param {Uint8Array} image @param {number} side @param {number} channels */
function paint(canvas, image, side, channels) {
  surface(canvas, THUMB, THUMB).drawImage(picture(image, side, side, channels, 1), 0, 0, THUMB, THUMB);
}
