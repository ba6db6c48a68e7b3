// The user's files, by button, paste or drop: pictures, and a network's two files.

import { byId } from "./dom.js";
import { decodePicture } from "./pictures.js";

/**
 * under: the grey that transparency becomes, or null for pictures that are drawings to read.
 * @typedef {object} Receivers
 * @property {(image: ImageData) => void} onPicture
 * @property {(config: any, weights: ArrayBuffer) => void} onModel
 * @property {(sentence: string) => void} onProblem
 * @property {() => number | null} under
 */

const MOST_WEIGHTS = 256 * 2 ** 20; // bytes of a model.safetensors

/** @param {Receivers} receivers */
export function listenForFiles({ onPicture, onModel, onProblem, under }) {
  /** @type {any} */
  let config = null;
  /** @type {ArrayBuffer | null} */
  let weights = null;

  /** @param {Iterable<File>} files */
  async function take(files) {
    try {
      for (const file of files) await takeOne(file);
    } catch (error) {
      onProblem(error instanceof Error ? error.message : String(error));
    }
  }

  /** @param {File} file */
  async function takeOne(file) {
    if (file.name === "novelty.safetensors") return; // your own network is shown without it
    if (file.name.endsWith(".safetensors")) weights = await weightsOf(file);
    else if (file.name.endsWith(".json")) config = await configOf(file);
    else return onPicture(await pictureOf(file, under()));
    if (config === null || weights === null) {
      return onProblem(`${file.name} received. Now add ${weights ? "config.json" : "model.safetensors"}.`);
    }
    const received = /** @type {const} */ ([config, weights]);
    [config, weights] = [null, null];
    onModel(...received);
  }

  for (const [button, chooser] of [
    ["open-picture", "picture-file"],
    ["open-model", "model-files"],
  ]) {
    const input = byId(chooser, HTMLInputElement);
    byId(button).addEventListener("click", () => input.click());
    input.addEventListener("change", () => {
      take([...(input.files ?? [])]);
      input.value = "";
    });
  }
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length) event.preventDefault();
    take(files);
  });

  let inside = 0; // dragenter and dragleave come for every element that the pointer crosses
  /** @param {number} change */
  const show = (change) => {
    inside = Math.max(0, inside + change);
    byId("drop").hidden = inside === 0;
  };
  document.addEventListener("dragenter", () => show(1));
  document.addEventListener("dragleave", () => show(-1));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    show(-inside);
    take([...(event.dataTransfer?.files ?? [])]);
  });
}

/** @param {File} file @param {number | null} under */
async function pictureOf(file, under) {
  try {
    return await decodePicture(file, under);
  } catch {
    throw new Error(`This browser cannot read ${file.name || "this file"} as a picture; try a PNG or JPEG file.`);
  }
}

/** @param {File} file */
async function configOf(file) {
  try {
    return JSON.parse(await file.text());
  } catch {
    throw new Error(`${file.name} is not JSON; use the config.json that was exported with model.safetensors.`);
  }
}

/** @param {File} file */
function weightsOf(file) {
  if (file.size > MOST_WEIGHTS) {
    const [size, most] = [Math.round(file.size / 2 ** 20), MOST_WEIGHTS / 2 ** 20];
    throw new Error(`${file.name} has ${size} MiB; this page reads at most ${most} MiB.`);
  }
  return file.arrayBuffer();
}
