// "Train one here": a new network learns in its own thread while its loss, its accuracy and its attention are shown.

import { attentionFrom } from "../attend.js";
import { attentionColour } from "../colour.js";
import { byId, css, el, keep, part, setAttribute, setText, surface } from "../dom.js";
import { saveNetwork } from "../downloads.js";
import { innerSide } from "../learn/design.js";
import { fewWords } from "../learn/drawings.js";
import { argmax, percent } from "../net/numbers.js";
import { startTraining } from "../training.js";
import { paintMap } from "./maps.js";

/** @import { View } from "../main.js" */
/** @import { Picture } from "../net/paper.js" */
/** @import { Kind } from "../learn/design.js" */
/** @import { Progress } from "../learn/worker.js" */
/** @import { Training } from "../training.js" */
/** @import { Own } from "./own.js" */
/** @typedef {{ images: number, value: number }} Dot */

const PATCHES = [4, 5, 7, 8, 10, 14, 16];
/** @type {{ name: keyof import("../learn/design.js").Knobs, label: string, values: number[], value: number, say: string }[]} */
const KNOBS = [
  {
    name: "patch",
    label: "Patch size",
    values: [4, 5, 10],
    value: 5,
    say: "Smaller patches show more detail, but make more tokens, which take more time.",
  },
  {
    name: "width",
    label: "Width",
    values: [16, 32, 48, 64],
    value: 32,
    say: "Numbers in each token: more hold more features; time grows with the square.",
  },
  {
    name: "depth",
    label: "Blocks",
    values: [1, 2, 3, 4],
    value: 2,
    say: "Each block lets the patches exchange information once more; time grows in proportion.",
  },
  {
    name: "heads",
    label: "Heads",
    values: [1, 2, 4],
    value: 2,
    say: "Each head looks in its own way; together they share the width, so they cost almost nothing extra.",
  },
  {
    name: "lr",
    label: "Learning rate",
    values: [0.0003, 0.001, 0.003, 0.01, 0.03],
    value: 0.003,
    say: "The size of a step: too small, and it learns slowly; too large, and it never settles.",
  },
  {
    name: "batch",
    label: "Batch",
    values: [16, 32, 64, 128],
    value: 64,
    say: "Images in a step: few make noisy steps, many make few steps.",
  },
  {
    name: "passes",
    label: "Passes",
    values: [1, 2, 4, 8, 16],
    value: 8,
    say: "How often it sees each image, changed a little each time.",
  },
  {
    name: "seed",
    label: "Seed",
    values: [0, 1, 2, 3, 4],
    value: 0,
    say: "The same seed gives the same network; another shows how much is chance.",
  },
];
const FEW = 100; // images to measure with
const MAP = 76; // pixels
const HEIGHT = 110;

/**
 * use: puts a network into the page's menu and chooses it.
 * @param {(config: any, weights: ArrayBuffer) => void} use @param {Own} own
 */
export function createTrain(use, own) {
  const selects = new Map(KNOBS.map((knob) => [knob.name, select(knob)]));
  const [play, step, reset, take, save] = ["play", "step", "reset", "use", "save"].map((name) =>
    byId(`train-${name}`, HTMLButtonElement),
  );
  /** @type {Training | null} */
  let training = null;
  /** @type {Progress | null} */
  let last = null;
  /** @type {Dot[]} */
  let losses = [];
  /** @type {Dot[]} */
  let scores = [];
  /** @type {Picture | null} */
  let drawing = null;
  let center = true;
  let begun = false;
  let made = 0;

  /** @param {string} sentence */
  const fail = (sentence) => {
    setText(byId("train-now"), sentence);
    setText(byId("train-spoken"), sentence);
    return false;
  };

  // The worker, started when it is first needed.
  function ready() {
    training ??= startTraining(progressed, fail);
    return training;
  }

  async function openLesson() {
    setText(byId("train-now"), "Loading the images ...");
    offerPatches(selects.get("patch"), await ready().lesson());
  }

  /** @param {"run" | "step"} order */
  async function go(order) {
    if (!begun && !(await begin())) return;
    ready().send({ type: order });
  }

  // Whether a new network could be begun; if not, the reason is shown.
  async function begin() {
    const problem = own.chosen() ? own.problem() : null;
    if (problem !== null) return fail(problem);
    const collected = own.chosen() ? own.collected() : null;
    try {
      if (collected === null) await openLesson();
      else offerPatches(selects.get("patch"), { side: 28, drawing: "mnist-drawing" });
    } catch (error) {
      return fail(error instanceof Error ? error.message : String(error));
    }
    [losses, scores, begun] = [[], [], true];
    const knobs = /** @type {any} */ (
      Object.fromEntries([...selects].map(([name, { value }]) => [name, Number(value)]))
    );
    ready().send({ type: "begin", knobs, name: `trained here ${++made}`, own: collected });
    if (drawing !== null) ready().send({ type: "drawing", drawing, center });
    return true;
  }

  /** @param {Progress} progress */
  function progressed(progress) {
    if (!begun) return;
    last = progress;
    const { batch, held, images } = progress;
    if (batch !== null) losses.push({ images, value: batch.loss });
    if (held !== null) scores.push({ images, value: held.accuracy });
    show();
  }

  function show() {
    for (const one of selects.values()) one.disabled = begun;
    byId("train-from", HTMLFieldSetElement).disabled = begun;
    const running = last?.running ?? false;
    const done = last !== null && last.step === last.steps;
    setText(play, done ? "Trained" : running ? "Pause" : begun ? "Continue" : "Train");
    play.disabled = step.disabled = done;
    step.disabled ||= running;
    reset.disabled = !begun;
    take.disabled = save.disabled = last === null || last.step === 0;
    byId("train-shown").hidden = last === null;
    if (last === null) return;
    const now = words(last, scores);
    setText(byId("train-now"), now); // many times a second, so a screen reader gets only the end
    setText(byId("train-spoken"), done ? now : "");
    const total = last.images === 0 ? 1 : (last.images / last.step) * last.steps;
    paintCurve("train-loss", losses, total, Math.max(1, ...losses.map(({ value }) => value)), "--second");
    paintCurve("train-accuracy", scores, total, 1, "--accent");
    paintMaps(last);
  }

  play.addEventListener("click", () => (last?.running ? ready().send({ type: "pause" }) : go("run")));
  step.addEventListener("click", () => go("step"));
  reset.addEventListener("click", () => {
    ready().send({ type: "pause" });
    [begun, last, losses, scores] = [false, null, [], []];
    setText(byId("train-now"), "");
    show();
  });
  take.addEventListener("click", async () => {
    const { config, weights } = await ready().files();
    use(config, weights);
  });
  save.addEventListener("click", async () => {
    const { config, weights } = await ready().files();
    saveNetwork(config, weights);
  });
  show();

  /** @param {View} view */
  return function render({ reading, state }) {
    if (reading === null || (reading.source === drawing && state.center === center)) return;
    [drawing, center] = [reading.source, state.center];
    training?.send({ type: "drawing", drawing, center });
  };
}

/**
 * Only patches that fill the images.
 * @param {HTMLSelectElement | undefined} chooser @param {Pick<Kind, "side" | "drawing">} kind
 */
function offerPatches(chooser, kind) {
  if (chooser === undefined) return;
  const inner = innerSide(kind);
  const fitting = PATCHES.filter((size) => inner % size === 0);
  const value = fitting.includes(Number(chooser.value)) ? chooser.value : String(fitting[1] ?? fitting[0] ?? inner);
  chooser.replaceChildren(...(fitting.length ? fitting : [inner]).map((size) => el("option", {}, String(size))));
  chooser.value = value;
}

/** @param {(typeof KNOBS)[number]} knob */
function select({ name, label, values, value, say }) {
  const id = `train-${name}-knob`;
  const chooser = el("select", { id }, ...values.map((one) => el("option", {}, String(one))));
  chooser.value = String(value);
  byId("train-knobs").append(
    el("div", { class: "knob" }, el("label", { for: id }, label), chooser, el("p", { class: "small" }, say)),
  );
  return chooser;
}

/** @param {Progress} progress @param {Dot[]} scores */
function words({ images, seconds, step, steps, look, config, measured }, scores) {
  const best = scores[scores.length - 1];
  const right = best ? scoreWords(best, measured) : "";
  const state = step === steps ? "Finished" : `Step ${step} of ${steps}`;
  const says =
    look?.steps.reason === null ? ` It reads your drawing as ${config.classes[argmax(look.probabilities)]}.` : "";
  const speed = seconds > 0 ? `, ${Math.round(images / seconds)} images a second` : "";
  return `${state}: ${right}; ${images.toLocaleString("en")} seen in ${seconds.toFixed(1)} s${speed}.${says}`;
}

/** @param {Dot} score @param {number} measured */
function scoreWords({ value, images }, measured) {
  if (measured < FEW) return fewWords(Math.round(value * measured), measured);
  const on = `${measured.toLocaleString("en")} that it does not learn from`;
  return `${percent(value)} right after ${images.toLocaleString("en")} images, on ${on}`;
}

/**
 * @param {string} id @param {Dot[]} dots @param {number} right images at the right edge @param {number} top
 * @param {string} colour
 */
function paintCurve(id, dots, right, top, colour) {
  const canvas = byId(id, HTMLCanvasElement);
  const width = canvas.clientWidth;
  const context = surface(canvas, width, HEIGHT);
  context.strokeStyle = css("--line");
  for (const y of [0.5, HEIGHT - 0.5]) {
    context.beginPath();
    context.moveTo(0, y);
    context.lineTo(width, y);
    context.stroke();
  }
  context.strokeStyle = css(colour);
  context.lineWidth = 2;
  context.lineJoin = "round";
  context.beginPath();
  for (const { images, value } of dots) context.lineTo((images / right) * width, 2 + (1 - value / top) * (HEIGHT - 4));
  context.stroke();
  const now = dots[dots.length - 1];
  if (now) setAttribute(canvas, "aria-label", `${canvas.dataset.what}: now ${now.value.toFixed(3)}`);
}

/** @param {Progress} progress */
function paintMaps({ look, squares, config }) {
  const layers = look?.attention ?? [];
  const heads = layers[0]?.heads ?? 0;
  const patches = squares.grid ** 2;
  const figures = keep(byId("train-maps"), layers.length * heads, () =>
    el("figure", {}, el("canvas", { class: "map train-map", role: "img" }), el("figcaption", { class: "small" })),
  );
  figures.forEach((figure, i) => {
    const [depth, head] = [Math.floor(i / heads), i % heads];
    const shares = attentionFrom(layers[depth], head, patches, null);
    const painting = { squares, channels: config.channels, mark: null, hidden: [], side: MAP };
    const image = /** @type {NonNullable<Progress["look"]>} */ (look).image;
    paintMap(part(figure, "canvas"), shares, (share) => attentionColour(share, patches), { ...painting, image });
    setAttribute(part(figure, "canvas"), "aria-label", `Attention of block ${depth + 1}, head ${head + 1}`);
    setText(part(figure, "figcaption"), `${depth + 1}.${head + 1}`);
  });
}
