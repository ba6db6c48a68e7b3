// Files that the page hands to its visitor.

import { el } from "./dom.js";

/**
 * The two files of a network, as "Open your own model" reads them.
 * @param {object} config @param {ArrayBuffer} weights
 */
export function saveNetwork(config, weights) {
  saveFile(weights, "model.safetensors");
  saveFile(`${JSON.stringify(config, null, 2)}\n`, "config.json");
}

/** @param {BlobPart} data @param {string} name */
export function saveFile(data, name) {
  const address = URL.createObjectURL(new Blob([data]));
  el("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
