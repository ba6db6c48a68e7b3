// The logit lens: what the network would answer if it ended after the embedding, after block 1, and so on.

import { byId, childrenOf, el, keep, setText } from "../dom.js";
import { argmax, percent } from "../net/numbers.js";

/** @import { View } from "../main.js" */
/** @import { Loaded } from "../net/worker.js" */

const MOST_CLASSES = 10;
const NOTHING = "Nothing is drawn, so there is no answer yet.";

/** `find`: the elements of the panel, by the ids of the first network's. */
export function createLens(find = byId) {
  const list = find("lens");
  /** @param {View} view */
  return function render({ model, reading, empty }) {
    const stages = reading?.lens ?? [];
    setText(find("lens-say"), empty && model?.views.tokens ? NOTHING : say(model));
    list.hidden = stages.length === 0;
    if (!model || !stages.length) return;
    const { classes } = model.config;
    list.classList.toggle(
      "worded",
      classes.some((name) => name.length > 2),
    );
    const last = stages[stages.length - 1];
    const shown = strongest(last, classes.length);
    const rows = keep(list, stages.length, () =>
      el(
        "li",
        {},
        el("span", { class: "stage" }),
        el("span", { class: "columns10", "aria-hidden": "true" }),
        el("span", { class: "says" }),
      ),
    );
    stages.forEach((probabilities, depth) => {
      const [stage, columns, says] = childrenOf(rows[depth]);
      setText(stage, depth === 0 ? "start" : `block ${depth}`);
      const best = argmax(probabilities);
      const bins = keep(columns, shown.length, () => el("span", { class: "bin" }, el("i"), el("b")));
      shown.forEach((index, i) => {
        const [bar, label] = childrenOf(bins[i]);
        bar.style.transform = `scaleY(${probabilities[index].toFixed(4)})`;
        bins[i].classList.toggle("best", index === best);
        setText(label, classes[index].length > 1 ? "" : classes[index]);
      });
      const [name, sure] = [classes[best], percent(probabilities[best], 0)];
      setText(says, name.length > 2 ? `${sure} · ${name}` : `${name} · ${sure}`); // a long name is cut at its end
      rows[depth].classList.toggle("agrees", best === argmax(last));
    });
  };
}

/**
 * All classes in their order, or the most probable ones of many.
 * @param {Float32Array} probabilities @param {number} count
 */
export function strongest(probabilities, count) {
  const all = Array.from({ length: count }, (_, i) => i);
  return count <= MOST_CLASSES ? all : all.sort((a, b) => probabilities[b] - probabilities[a]).slice(0, MOST_CLASSES);
}

/** @param {Loaded | null} model */
function say(model) {
  if (!model) return "";
  if (!model.views.tokens) return "A CNN has no tokens that pass from block to block, so it cannot be read halfway.";
  return "What it would answer if it stopped at each stage. The last matrix was trained for the last row only, so the others are rough. Bold: the same as in the end.";
}
