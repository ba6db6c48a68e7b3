// Known images: those that came with a network, laid under the strokes by their number, each with the label that its
// data set gives it.

import { byId, setText } from "./dom.js";
import { exampleImage } from "./pictures.js";

// loaded(id) -> what client.js's load gave, or undefined. Returns {lay, first, settle, render}.
export function createKnown(store, slate, loaded, notice) {
  const current = () => loaded(store.get().model);

  // An example keeps its label and its data: another network may have other classes, and other images by that number.
  function place({ config, examples }, index, more = {}) {
    const label = config.classes[examples.labels[index]] ?? null;
    slate.lay(exampleImage(examples, index), "example", { ...more, index, label, data: config.data });
  }

  byId("random").addEventListener("click", () => {
    const count = current()?.examples?.images.length;
    if (!count) return notice("No test digits came with this network.");
    place(current(), Math.floor(Math.random() * count));
  });

  return {
    // The image that the drawing of a link names. False, and a sentence, if there is none and nothing else to show.
    lay() {
      const { kind, index, strokes } = store.get().drawing;
      const images = current()?.examples?.images ?? [];
      if (kind === "example" && images[index]) {
        place(current(), index, { strokes });
        return true;
      }
      slate.ground(null);
      if (kind !== "example") return true;
      const came = `with this network came ${images.length}, from 0`;
      if (current()) notice(`The link names the known image ${index}; ${came}.`);
      store.set({ drawing: { kind: "strokes", strokes } });
      return strokes.length > 0;
    },
    // What to begin with where no digit is drawn.
    first() {
      if (current()?.examples?.images.length) place(current(), 0);
    },
    // Under a network of other data an example is a picture like any other: its number means another image there.
    settle() {
      const { drawing } = store.get();
      const foreign = drawing.kind === "example" && drawing.data !== undefined && current();
      if (foreign && current().config.data !== drawing.data)
        store.set({ drawing: { kind: "picture", strokes: drawing.strokes } });
    },
    render({ state, model }) {
      const { kind, label, strokes } = state.drawing;
      const known = kind === "example" && !strokes.length && typeof label === "string";
      byId("truth").hidden = !known;
      if (known) setText(byId("truth"), `Known label: ${label}`);
      setText(byId("random"), model?.config.drawing === null ? "Random image" : "Random test digit");
    },
  };
}
