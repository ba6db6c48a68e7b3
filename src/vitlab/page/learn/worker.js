// Training, in a separate thread: the page and its networks stay as quick as before.

import { pause } from "../net/pause.js";
import { readDrawing } from "../net/probe.js";
import { build, checkKnobs, squaresOf } from "../net/vit.js";
import { design, startOf } from "./design.js";
import { materialOf } from "./drawings.js";
import { chosen, imagesOf } from "./images.js";
import { openLesson } from "./lesson.js";
import { inOneArray } from "./network.js";
import { toSafetensors } from "./save.js";
import { createTrainer } from "./trainer.js";

/** @import { Config } from "../net/config.js" */
/** @import { Network } from "../net/model.js" */
/** @import { Picture } from "../net/paper.js" */
/** @import { Knobs } from "./design.js" */
/** @import { Collected, Material } from "./drawings.js" */
/** @import { Images } from "./images.js" */
/** @import { Facts } from "./lesson.js" */
/** @import { Score, Trainer } from "./trainer.js" */
/**
 * @typedef {{ type: "lesson", png: ArrayBuffer, facts: Facts }} Lesson  the images to learn from
 * @typedef {{ type: "begin", knobs: Knobs, name: string, own: Collected | null }} Begin  a new network; own: what it
 *   learns from, in place of the lesson
 * @typedef {{ type: "run" | "pause" | "step" | "files" }} Order
 * @typedef {{ type: "drawing", drawing: Picture, center: boolean }} Drawing  what to show the network while it learns
 *
 * held: on images that it does not learn from; null between two measurements. seconds: of training so far.
 * @typedef {object} Progress
 * @property {"progress"} type
 * @property {number} step
 * @property {number} steps
 * @property {number} seconds
 * @property {number} images  seen so far
 * @property {Score | null} batch
 * @property {Score | null} held
 * @property {number} measured  on so many images
 * @property {boolean} running
 * @property {Config} config
 * @property {import("../net/model.js").Squares} squares
 * @property {ReturnType<typeof readDrawing>["answer"] | null} look
 * @typedef {{ type: "files", config: Config, weights: ArrayBuffer }} Files
 * @typedef {{ type: "failed", message: string }} Failed
 */

const SLICE = 100; // milliseconds of training between two reports
const SCORED = 1500; // milliseconds of training between two measurements
const RECIPE = { smoothing: 0.1, decay: 0.05, part: "all", schedule: "linear" };
const CHANGE = { rotate: 10, shift: 1.5, zoom: 0.1 };

/** @type {Material | null} */
let lesson = null;
/** @type {{ trainer: Trainer, held: Images, network: Network, milliseconds: number, scored: number, batch: Score | null } | null} */
let run = null;
/** @type {Drawing | null} */
let shown = null;
let running = false;
/** @type {Promise<void>} */
let opening = Promise.resolve(); // of the lesson: what is sent meanwhile waits, in its order

/** @param {MessageEvent<Lesson | Begin | Order | Drawing>} event */
self.onmessage = async ({ data: message }) => {
  try {
    if (message.type === "lesson") opening = keep(message);
    await opening;
    switch (message.type) {
      case "begin":
        begin(message);
        break;
      case "run":
        if (!running) await keepOn();
        break;
      case "pause":
        running = false;
        break;
      case "step":
        running = false;
        train(0);
        report(true);
        break;
      case "drawing":
        shown = message;
        if (run !== null && !running) report(false);
        break;
      case "files":
        self.postMessage(files());
    }
  } catch (error) {
    running = false;
    self.postMessage({ type: "failed", message: error instanceof Error ? error.message : String(error) });
  }
};

/** @param {Lesson} message */
async function keep({ png, facts }) {
  lesson = { facts, ...(await openLesson(png, facts)) };
}

/** @param {Begin} message */
function begin({ knobs, name, own }) {
  const material = own === null ? lesson : materialOf(own);
  if (material === null) throw new Error("The images to learn from have not been loaded.");
  const { facts, images, labels } = material;
  const config = design(facts, knobs, name);
  checkKnobs(config.model);
  const parameters = inOneArray(startOf(config, knobs.seed));
  const all = imagesOf(images, labels, facts.side, config);
  /** @param {number} first @param {number} count */
  const part = (first, count) =>
    chosen(
      all,
      Array.from({ length: count }, (_, i) => first + i),
    );
  const recipe = { ...knobs, ...RECIPE, change: CHANGE };
  const trainer = createTrainer(config, parameters, part(0, facts.train), /** @type {any} */ (recipe));
  const built = build(config, parameters.tensors); // the same weights: it reads what has been learned so far
  const network = { ...built, config, squares: squaresOf(config.model), native: facts.side, bounds: null };
  run = { trainer, held: part(facts.train, facts.held), network, milliseconds: 0, scored: 0, batch: null };
  running = false;
  report(true);
}

// Trains until it is paused or done, and lets messages in now and then.
async function keepOn() {
  const mine = run;
  running = true;
  while (running && run !== null && run === mine && run.trainer.done() < run.trainer.total) {
    train(SLICE);
    const due = run.milliseconds - run.scored >= SCORED || run.trainer.done() === run.trainer.total;
    if (run.trainer.done() === run.trainer.total) running = false;
    report(due);
    await pause();
  }
  if (run !== mine) return; // another network was begun meanwhile, and may be learning
  running = false;
  report(run !== null && run.trainer.done() < run.trainer.total); // paused: how good it is now
}

/**
 * At least one step, and more until the time is up.
 * @param {number} milliseconds
 */
function train(milliseconds) {
  if (run === null || run.trainer.done() === run.trainer.total) return;
  const started = performance.now();
  do run.batch = run.trainer.step();
  while (performance.now() - started < milliseconds && run.trainer.done() < run.trainer.total);
  run.milliseconds += performance.now() - started;
}

/** @param {boolean} score */
function report(score) {
  if (run === null) return;
  const { trainer, network, milliseconds, batch } = run;
  const held = score ? trainer.score(run.held) : null;
  if (score) run.scored = milliseconds;
  const job = { hidden: [], disturb: { rotate: 0, shift: 0, noise: 0 }, want: {} };
  const look = shown === null ? null : readDrawing(network, { ...job, ...shown }).answer;
  /** @type {Progress} */
  const progress = {
    type: "progress",
    step: trainer.done(),
    steps: trainer.total,
    seconds: milliseconds / 1000,
    images: trainer.done() * trainer.batch,
    batch,
    held,
    measured: run.held.count,
    running,
    config: trainer.config,
    squares: network.squares,
    look,
  };
  self.postMessage(progress);
}

/** @returns {Files} */
function files() {
  if (run === null) throw new Error("There is no network yet.");
  return { type: "files", config: run.trainer.config, weights: toSafetensors(run.trainer.parameters.tensors) };
}
