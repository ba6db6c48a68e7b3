// The networks, off the main thread. Messages, each answered by one (but for "hurry"):
//
// {type: "load", model: id, base: "models/<id>/"}
// {type: "load-files", model: id, config: object, weights: ArrayBuffer}       a model dropped on the page
//   <- {type: "loaded", model, config, squares: {grid, side, margin, size}, selftest: {images, maxDifference, agree} or
//       null, examples: {side, channels, labels, logits, images: [Uint8Array [side, side, channels]]} or null}
//   <- {type: "failed", model, message}                                       one sentence
// {type: "read", model: id, request: n, drawing: {width, height, channels, pixels: Uint8Array [row, column, channel]},
//  center: bool, hidden: [patch numbers], disturb: {rotate, shift, noise},
//  want: {deletion: bool, curve: null or kind, inside: false if attention and lens may be left out}}
//   <- {type: "reading", model, request, milliseconds, steps, image, logits, probabilities, attention, lens, deletion,
//       curve: {label, strengths, probabilities} or null}
//   <- {type: "failed", model, request, message}
// {type: "hurry", model: id}     a newer drawing waits: the reading under way leaves out what is not done (null)

import { openExamples } from "./examples.js";
import { checkConfig } from "./geometry.js";
import { openModel, sentence } from "./model.js";
import { toInput } from "./preprocess.js";
import { curve, deletion, readDrawing, selfTest } from "./probe.js";
import { ModelError } from "./weights.js";

const SELFTEST_IMAGES = 10; // at load: one of each class
const SLICE = 8; // milliseconds of work between two looks at the messages

const networks = new Map();
const hurried = new Set(); // models whose reading under way is to end

self.onmessage = async ({ data: message }) => {
  const { model } = message;
  try {
    switch (message.type) {
      case "hurry":
        hurried.add(model);
        break;
      case "load":
        self.postMessage(await loadBundle(model, message.base));
        break;
      case "load-files":
        self.postMessage(keep(model, await opened(message.config, message.weights), null));
        break;
      case "read":
        hurried.delete(model);
        self.postMessage(await read(message));
    }
  } catch (error) {
    self.postMessage({ type: "failed", model, request: message.request, message: sentence(error, message.type) });
  }
};

async function loadBundle(model, base) {
  const [config, weights, examples] = await Promise.all([
    fetched(`${base}config.json`).then(asJson),
    fetched(`${base}model.safetensors`).then((response) => response.arrayBuffer()),
    fetched(`${base}examples.json`).then(asJson),
  ]);
  return keep(model, await opened(config, weights), openExamples(examples, config));
}

/** The network of its two files, unless they were changed on their way. */
async function opened(config, weights) {
  checkConfig(config);
  await checkDigest(weights, config.sha256);
  return openModel(config, weights);
}

async function fetched(address) {
  let response;
  try {
    response = await fetch(address);
  } catch {
    throw new ModelError(`${address} could not be fetched: no answer.`);
  }
  if (!response.ok) {
    throw new ModelError(`${address} could not be fetched: the server says ${response.status}.`);
  }
  return response;
}

async function asJson(response) {
  try {
    return await response.json();
  } catch {
    throw new ModelError(`${new URL(response.url).pathname} is damaged: it is not JSON.`);
  }
}

/** Browsers compute digests on pages from this machine or over https only; elsewhere this check is left out. */
async function checkDigest(weights, expected) {
  if (typeof expected !== "string" || self.crypto?.subtle === undefined) {
    return;
  }
  const digest = new Uint8Array(await self.crypto.subtle.digest("SHA-256", weights));
  const hex = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (hex !== expected) {
    throw new ModelError("The weights are damaged, or another model's: their SHA-256 is not the one in config.json.");
  }
}

/** Remember the network, test it, and say that it is there. */
function keep(model, network, examples) {
  const selftest = examples === null ? null : selfTest(network, toInput, examples, SELFTEST_IMAGES);
  networks.set(model, { ...network, native: examples?.side ?? network.native });
  const { config, squares } = network;
  return { type: "loaded", model, config, squares, selftest, examples };
}

async function read(message) {
  const { model, request, want } = message;
  const network = networks.get(model);
  if (network === undefined) {
    throw new ModelError(`Model ${model} has not been loaded.`);
  }
  const { answer, unit, input } = readDrawing(network, message);
  if (want?.deletion) {
    answer.deletion = await inSlices(model, deletion(network, input, answer.probabilities));
  }
  if (want?.curve) {
    answer.curve = await inSlices(model, curve(network, unit, message, want.curve));
  }
  return { type: "reading", model, request, ...answer };
}

/** Run a generator to its end, with a pause for other messages now and then; null if a newer drawing waits. */
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

/** Let waiting messages be handled. A timer would wait for 4 ms each time. */
function pause() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}
