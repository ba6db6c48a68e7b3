// "Train one here": a new network learns in its own thread while its loss, its accuracy and its attention are shown.

import { attentionFrom } from "../attend.js";
import { attentionColour } from "../colour.js";
import { byId, css, el, keep, part, setAttribute, setText, surface } from "../dom.js";
import { saveNetwork } from "../downloads.js";
import { argmax, percent } from "../net/numbers.js";
import { startTraining } from "../training.js";
import { paintMap } from "./maps.js";

/** @import { View } from "../main.js" */
/** @import { Picture } from "../net/paper.js" */
/** @import { Facts } from "../learn/lesson.js" */
/** @import { Progress } from "../learn/worker.js" */
/** @import { Training } from "../training.js" */
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
    say: "Each head looks in its own way; together they share the width, so they cost nothing.",
  },
  {
    name: "lr",
    label: "Learning rate",
    values: [0.0003, 0.001, 0.003, 0.01, 0.03],
    value: 0.003,
    say: "The length of a step: too small learns slowly, too large never settles.",
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
    say: "The same seed gives the same network; another shows what is chance.",
  },
];
const MAP = 76; // pixels
const HEIGHT = 110;

/** @param {(config: any, weights: ArrayBuffer) => void} use puts a network into the page's menu and chooses it */
export function createTrain(use) {
  const selects = new Map(KNOBS.map((knob) => [knob.name, select(knob)]));
  const [play, step, reset, take, save] = ["play", "step", "reset", "use", "save"].map((name) =>
    byId(`train-${name}`, HTMLButtonElement),
  );
  /** @type {Promise<Training> | null} */
  let starting = null;
  /** @type {Facts | null} */
  let lesson = null;
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
  };

  // The worker with the images, started when it is first needed.
  function ready() {
    if (starting === null) {
      setText(byId("train-now"), "Loading the images ...");
      starting = startTraining(opened, progressed, fail);
      starting.catch((error) => {
        starting = null;
        fail(error instanceof Error ? error.message : String(error));
      });
    }
    return starting;
  }

  /** @param {Facts} facts */
  function opened(facts) {
    lesson = facts;
    const inner = facts.drawing !== null && facts.side > 20 ? 20 : facts.side;
    const fitting = PATCHES.filter((size) => inner % size === 0);
    const patch = /** @type {HTMLSelectElement} */ (selects.get("patch"));
    const value = fitting.includes(Number(patch.value)) ? patch.value : String(fitting[1] ?? fitting[0] ?? inner);
    patch.replaceChildren(...(fitting.length ? fitting : [inner]).map((size) => el("option", {}, String(size))));
    patch.value = value;
  }

  /** @param {"run" | "step"} order */
  async function go(order) {
    const training = await ready();
    if (!begun) {
      [losses, scores, begun] = [[], [], true];
      const knobs = Object.fromEntries([...selects].map(([name, { value }]) => [name, Number(value)]));
      training.send({ type: "begin", knobs: /** @type {any} */ (knobs), name: `trained here ${++made}` });
      if (drawing !== null) training.send({ type: "drawing", drawing, center });
    }
    training.send({ type: order });
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
    const running = last?.running ?? false;
    const done = last !== null && last.step === last.steps;
    setText(play, done ? "Trained" : running ? "Pause" : begun ? "Continue" : "Train");
    play.disabled = step.disabled = done;
    step.disabled ||= running;
    reset.disabled = !begun;
    take.disabled = save.disabled = last === null || last.step === 0;
    byId("train-shown").hidden = last === null;
    if (last === null) return;
    const now = words(last, scores, lesson);
    setText(byId("train-now"), now); // many times a second, so a screen reader gets only the end
    setText(byId("train-spoken"), done ? now : "");
    const total = last.images === 0 ? 1 : (last.images / last.step) * last.steps;
    paintCurve("train-loss", losses, total, Math.max(1, ...losses.map(({ value }) => value)), "--second");
    paintCurve("train-accuracy", scores, total, 1, "--accent");
    paintMaps(last);
  }

  play.addEventListener("click", async () => {
    if (last?.running) (await ready()).send({ type: "pause" });
    else await go("run").catch(() => undefined);
  });
  step.addEventListener("click", () => go("step").catch(() => undefined));
  reset.addEventListener("click", async () => {
    (await ready()).send({ type: "pause" });
    [begun, last, losses, scores] = [false, null, [], []];
    setText(byId("train-now"), "");
    show();
  });
  take.addEventListener("click", async () => {
    const { config, weights } = await (await ready()).files();
    use(config, weights);
  });
  save.addEventListener("click", async () => {
    const { config, weights } = await (await ready()).files();
    saveNetwork(config, weights);
  });
  show();

  /** @param {View} view */
  return function render({ reading, state }) {
    if (reading === null || (reading.source === drawing && state.center === center)) return;
    [drawing, center] = [reading.source, state.center];
    if (starting === null) return;
    const [now, centred] = [drawing, center];
    starting.then(
      (training) => training.send({ type: "drawing", drawing: now, center: centred }),
      () => undefined,
    );
  };
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

/** @param {Progress} progress @param {Dot[]} scores @param {Facts | null} lesson */
function words({ images, seconds, step, steps, look, config }, scores, lesson) {
  const best = scores[scores.length - 1];
  const right =
    best && lesson
      ? `${percent(best.value)} right after ${best.images.toLocaleString("en")} images, on ${lesson.held.toLocaleString("en")} that it does not learn from`
      : "";
  const state = step === steps ? "Finished" : `Step ${step} of ${steps}`;
  const says = look ? ` It reads your drawing as ${config.classes[argmax(look.probabilities)]}.` : "";
  const speed = seconds > 0 ? `, ${Math.round(images / seconds)} images a second` : "";
  return `${state}: ${right}; ${images.toLocaleString("en")} seen in ${seconds.toFixed(1)} s${speed}.${says}`;
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
