// examples.json: images that the model can be tried on, with the logits that Python has computed for them.

import { ModelError } from "./weights.js";

/** {side, channels, labels, images: [Uint8Array [side, side, channels]], logits: [[K], ...]}; ModelError if damaged. */
export function openExamples(examples, config) {
  const { side, channels, images, labels, logits } = examples ?? {};
  const lists = [images, labels, logits].every((list) => Array.isArray(list) && list.length === images.length);
  if (!lists || channels !== config.channels || !logits.every((row) => row.length === config.classes.length)) {
    throw new ModelError("examples.json is damaged, or belongs to another model.");
  }
  const opened = images.map((text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)));
  if (opened.some((pixels) => pixels.length !== side * side * channels)) {
    throw new ModelError("examples.json is damaged: an image is not of the size that it states.");
  }
  return { side, channels, labels, images: opened, logits };
}
