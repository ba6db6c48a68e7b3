// Known images: those that came with a network, laid under the strokes by number, each with the label from its data set.

import { byId, setText } from "./dom.js";
import { exampleImage } from "./pictures.js";
import { words } from "./words.js";

/** @import { Slate } from "./draw.js" */
/** @import { View } from "./main.js" */
/** @import { Drawing, Store } from "./state.js" */
/** @import { Loaded } from "./net/worker.js" */

/**
 * loaded(id): the network, if it has been loaded.
 * @param {Store} store @param {Slate} slate @param {(id: string | null) => Loaded | undefined} loaded
 * @param {(sentence: string) => void} notice
 */
export function createKnown(store, slate, loaded, notice) {
  const current = () => loaded(store.get().model);
  const images = () => current()?.examples?.images ?? [];

  /**
   * An image keeps its label and its data set: another network may have other classes, and other images by that number.
   * @param {number} index @param {Partial<Drawing>} more
   */
  function place(index, more = {}) {
    const network = current();
    if (!network?.examples) return;
    const { config, examples } = network;
    const label = config.classes[examples.labels[index] ?? -1] ?? null;
    slate.lay(exampleImage(examples, index), "example", { ...more, index, label, data: config.data });
  }

  byId("random").addEventListener("click", () => {
    const count = images().length;
    if (count) place(Math.floor(Math.random() * count));
    else if (current()) notice(`This network came without test ${words(current()?.config ?? null).thing}s.`);
    else notice("The network is still on its way.");
  });

  return {
    // Shows the image that a link names. False, after a notice, if there is neither that image nor anything else.
    lay() {
      const { kind, index = -1, strokes } = store.get().drawing;
      if (kind === "example" && images()[index]) {
        place(index, { strokes });
        return true;
      }
      slate.ground(null);
      if (kind !== "example") return true;
      const count = images().length;
      const has = count ? `this network has only 0 to ${count - 1}` : "this network has none";
      if (current()) notice(`The link asks for known image ${index}, but ${has}.`);
      store.set({ drawing: { kind: "strokes", strokes } });
      return strokes.length > 0;
    },
    // What to start with if the network does not read digits.
    first() {
      if (images().length) place(0);
    },
    // For a network of other data, a known image becomes an ordinary picture: its number means another image there.
    settle() {
      const { drawing } = store.get();
      const network = current();
      if (drawing.kind !== "example" || drawing.data === undefined || !network) return;
      if (network.config.data !== drawing.data) store.set({ drawing: { kind: "picture", strokes: drawing.strokes } });
    },
    /** @param {View} view */
    render({ state, model }) {
      const { kind, label, strokes } = state.drawing;
      const known = kind !== "strokes" && !strokes.length && typeof label === "string";
      byId("truth").hidden = !known;
      if (known) setText(byId("truth"), `Known label: ${label}`);
      const { thing } = words(model?.config ?? null);
      const own = model?.examples?.labels.some((one) => one !== null) ?? true; // else they are of another data set
      setText(byId("random"), own ? `Random test ${thing}` : `A ${thing} to try`);
    },
  };
}
