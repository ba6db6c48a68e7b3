// The networks, off the main thread. Every message but "hurry" gets exactly one answer.

import { openExamples } from "./examples.js";
import { openModel } from "./model.js";
import { pause } from "./pause.js";
import { causes, curve, deletion, readDrawing, selfTest } from "./probe.js";
import { FileError } from "./safetensors.js";
import { ModelError } from "./weights.js";

/** @import { Config } from "./config.js" */
/** @import { Disturbance, STRENGTHS } from "./disturb.js" */
/** @import { Examples } from "./examples.js" */
/** @import { Network, Squares, Trace, Views } from "./model.js" */
/** @import { Picture } from "./paper.js" */
/** @import { Steps } from "./preprocess.js" */
/** @import { Opened } from "./token.js" */
/**
 * @typedef {keyof typeof STRENGTHS} Kind  of disturbance
 *
 * One patch in one block and head, all counted from 0.
 * @typedef {{ patch: number, block: number, head: number }} Place
 *
 * What to compute besides the answer. inside: attention and lens, on unless false; open: the token to open; traits: see
 * novelty.js.
 * @typedef {{ traits?: boolean, deletion?: boolean, causes?: boolean, curve?: Kind | null, inside?: boolean, open?: Place | null }} Want
 *
 * A drawing to read. hidden: numbers of patches, from 0. cuts: what is switched off (cuts.js).
 * @typedef {object} Job
 * @property {Picture} drawing
 * @property {boolean} center
 * @property {number[]} hidden
 * @property {string[]} [cuts]
 * @property {Disturbance} disturb
 * @property {Want} want
 *
 * @typedef {{ type: "load", model: string, base: string }} Load  base: the address of the model's folder
 * @typedef {{ type: "load-files", model: string, config: any, weights: ArrayBuffer, like: string | null }} LoadFiles  files
 *   that are not of this site's models; like: a model that learned from the same images
 * @typedef {{ type: "read", model: string, request: number } & Job} Read
 * @typedef {{ type: "hurry", model: string }} Hurry  a newer drawing waits: skip the rest of the current reading
 *
 * @typedef {object} Loaded
 * @property {"loaded"} type
 * @property {string} model
 * @property {Config} config
 * @property {Squares} squares
 * @property {Record<string, number[]>} shapes
 * @property {Views} views
 * @property {string[]} cuts
 * @property {{ images: number, maxDifference: number, maxDistance: number, agree: boolean } | null} selftest
 * @property {Examples | null} examples
 *
 * The probability of class `label` at each strength.
 * @typedef {{ label: number, strengths: number[], probabilities: Float32Array }} Curve
 *
 * The whole network's answer `label`, its probability, and for each part that can be switched off: what becomes of that
 * probability without it, and what the answer is then.
 * @typedef {{ cut: string, probability: number, answer: number }} Effect
 * @typedef {{ label: number, probability: number, effects: Effect[] }} Causes
 *
 * milliseconds: of the network alone. image: the network's input [S, S, C] in 0..1, before normalisation. deletion and
 * curve are null if they were not asked for or a newer drawing was waiting. distance: from what the network was trained
 * on; unlike: whether it is unlike all of it. Both are null if that is not known. whole: the probabilities with nothing
 * switched off. opened: the token that was to be opened, if the network has it.
 * @typedef {object} ReadingFacts
 * @property {"reading"} type
 * @property {string} model
 * @property {number} request
 * @property {number} milliseconds
 * @property {Steps} steps
 * @property {Float32Array} image
 * @property {number | null} distance
 * @property {boolean | null} unlike
 * @property {Float64Array | null} traits
 * @property {Float32Array | null} deletion
 * @property {Curve | null} curve
 * @property {Causes | null} causes
 * @property {Float32Array} whole
 * @property {Opened | null} opened
 * @typedef {ReadingFacts & Trace} Reading
 *
 * @typedef {{ type: "failed", model: string, request?: number, message: string }} Failed  message: one sentence
 */

const SELFTEST_IMAGES = 10; // on loading: one of each class
const SLICE = 8; // milliseconds of work before waiting messages are handled

/** @type {Map<string, Network>} */
const networks = new Map();
/** @type {Set<string>} */
const hurried = new Set(); // models whose current reading is to end early

/** @param {MessageEvent<Load | LoadFiles | Read | Hurry>} event */
self.onmessage = async ({ data: message }) => {
  try {
    switch (message.type) {
      case "hurry":
        hurried.add(message.model);
        break;
      case "load":
        self.postMessage(await loadBundle(message.model, message.base));
        break;
      case "load-files":
        self.postMessage(keep(message.model, await openLike(message), null));
        break;
      case "read":
        hurried.delete(message.model);
        self.postMessage(await read(message));
    }
  } catch (error) {
    self.postMessage(failure(message, error));
  }
};

/**
 * An error as one sentence for the user; an unexpected one starts with what was being done.
 * @param {Load | LoadFiles | Read | Hurry} message @param {unknown} error
 * @returns {Failed}
 */
function failure(message, error) {
  const { model } = message;
  const request = message.type === "read" ? message.request : undefined;
  const words = error instanceof Error ? error.message : String(error);
  if (error instanceof ModelError || error instanceof FileError) {
    return { type: "failed", model, request, message: words };
  }
  const what = message.type === "read" ? "The drawing could not be read" : "The model could not be loaded";
  return { type: "failed", model, request, message: `${what}: ${words}.` };
}

/** @param {string} model @param {string} base */
async function loadBundle(model, base) {
  const [config, weights, examples] = await Promise.all([
    fetched(`${base}config.json`).then(asJson),
    fetched(`${base}model.safetensors`).then((response) => response.arrayBuffer()),
    fetched(`${base}examples.json`).then(asJson),
  ]);
  const novelty = config?.novelty ? await (await fetched(`${base}novelty.safetensors`)).arrayBuffer() : null;
  return keep(model, await openModel(config, weights, novelty), openExamples(examples, config));
}

/** @param {LoadFiles} message */
async function openLike({ config, weights, like }) {
  const network = await openModel(config, weights);
  return { ...network, native: networks.get(like ?? "")?.native ?? network.native };
}

/** @param {string} address */
async function fetched(address) {
  let response;
  try {
    response = await fetch(address);
  } catch {
    throw new ModelError(`${address} could not be fetched: no response.`);
  }
  if (!response.ok) {
    throw new ModelError(`${address} could not be fetched: the server answered ${response.status}.`);
  }
  return response;
}

/** @param {Response} response */
async function asJson(response) {
  try {
    return await response.json();
  } catch {
    throw new ModelError(`${new URL(response.url).pathname} is damaged: it is not JSON.`);
  }
}

/**
 * Stores the network and tests it.
 * @param {string} model @param {Network} network @param {Examples | null} examples
 * @returns {Loaded}
 */
function keep(model, network, examples) {
  const selftest = examples === null ? null : selfTest(network, examples, SELFTEST_IMAGES);
  networks.set(model, { ...network, native: examples?.side ?? network.native });
  const { config, squares, shapes, views, cuts } = network;
  return { type: "loaded", model, config, squares, shapes, views, cuts, selftest, examples };
}

/**
 * @param {Read} message
 * @returns {Promise<Reading>}
 */
async function read(message) {
  const { model, request, want } = message;
  const network = networks.get(model);
  if (network === undefined) {
    throw new ModelError(`Model ${model} has not been loaded.`);
  }
  const { answer, unit, input } = readDrawing(network, message);
  const map = want.deletion
    ? await inSlices(model, deletion(network, input, answer.probabilities, message.cuts))
    : null;
  const needs = want.causes ? await inSlices(model, causes(network, input)) : null;
  const line = want.curve ? await inSlices(model, curve(network, unit, message, want.curve)) : null;
  return { type: "reading", model, request, ...answer, deletion: map, curve: line, causes: needs };
}

/**
 * Runs a generator to its end, pausing now and then for other messages; null if a newer drawing waits.
 * @template T
 * @param {string} model @param {Generator<undefined, T>} steps
 * @returns {Promise<T | null>}
 */
async function inSlices(model, steps) {
  for (let end = performance.now() + SLICE; ; ) {
    const { done, value } = steps.next();
    if (done) {
      return value;
    }
    if (performance.now() > end) {
      await pause();
      end = performance.now() + SLICE;
    }
    if (hurried.has(model)) {
      return null;
    }
  }
}
