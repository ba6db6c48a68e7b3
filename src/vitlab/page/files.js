// Files that the reader brings: pictures, and a network's two files; by button, paste or drop.

import { byId } from "./dom.js";
import { decodePicture } from "./pictures.js";

const MOST_WEIGHTS = 256 * 2 ** 20; // bytes of a model.safetensors

// onPicture(image), onModel(config, weights), onProblem(sentence); isDrawing(): whether a picture is a drawing to read.
export function listenForFiles({ onPicture, onModel, onProblem, isDrawing }) {
  const found = { config: null, weights: null };

  async function take(files) {
    try {
      for (const file of files) await takeOne(file);
    } catch (error) {
      onProblem(error.message);
    }
  }

  async function takeOne(file) {
    if (file.name.endsWith(".safetensors")) found.weights = await weightsOf(file);
    else if (file.name.endsWith(".json")) found.config = await configOf(file);
    else return onPicture(await pictureOf(file, isDrawing()));
    if (!found.config || !found.weights)
      return onProblem(`${file.name} is there; now the other of config.json and model.safetensors.`);
    const { config, weights } = found;
    Object.assign(found, { config: null, weights: null });
    onModel(config, weights);
  }

  for (const [button, input] of [
    ["open-picture", "picture-file"],
    ["open-model", "model-files"],
  ]) {
    byId(button).addEventListener("click", () => byId(input).click());
    byId(input).addEventListener("change", ({ target }) => {
      take([...target.files]);
      target.value = "";
    });
  }
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length) event.preventDefault();
    take(files);
  });

  let inside = 0; // dragenter and dragleave come for every element that is crossed
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

async function pictureOf(file, isDrawing) {
  try {
    return await decodePicture(file, isDrawing);
  } catch {
    throw new Error(`${file.name || "This"} is no picture that this browser can read: try a PNG or JPEG file.`);
  }
}

async function configOf(file) {
  try {
    return JSON.parse(await file.text());
  } catch {
    throw new Error(`${file.name} is not JSON: take the config.json beside model.safetensors.`);
  }
}

async function weightsOf(file) {
  if (file.size > MOST_WEIGHTS)
    throw new Error(
      `${file.name} has ${Math.round(file.size / 2 ** 20)} MiB; this page takes up to ${MOST_WEIGHTS / 2 ** 20}.`,
    );
  return file.arrayBuffer();
}
