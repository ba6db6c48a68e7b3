// The logit lens: what the network would answer if it ended after the embedding, after block 1, and so on.

import { argmax, byId, el, keep, percent, setText } from "../dom.js";

const MOST_CLASSES = 10;

export function createLens() {
  const list = byId("lens");
  return function render({ model, reading, empty }) {
    const stages = reading?.lens ?? [];
    setText(byId("lens-say"), say(model, stages));
    list.hidden = stages.length === 0;
    list.classList.toggle("faded", empty);
    list.classList.toggle("worded", Boolean(model?.config.classes.some((name) => name.length > 2)));
    if (!stages.length) return;
    const classes = model.config.classes;
    const shown = strongest(stages.at(-1), classes.length);
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
      const [stage, columns, says] = rows[depth].children;
      setText(stage, depth === 0 ? "start" : `block ${depth}`);
      const best = argmax(probabilities);
      keep(columns, shown.length, () => el("span", { class: "bin" }, el("i"), el("b")));
      shown.forEach((index, i) => {
        const bin = columns.children[i];
        bin.firstElementChild.style.transform = `scaleY(${probabilities[index].toFixed(4)})`;
        bin.classList.toggle("best", index === best);
        setText(bin.lastElementChild, classes[index].length > 1 ? "" : classes[index]);
      });
      const [name, sure] = [classes[best], percent(probabilities[best], 0)];
      setText(says, name.length > 2 ? `${sure} · ${name}` : `${name} · ${sure}`); // a long name is cut at its end
      rows[depth].classList.toggle("agrees", best === argmax(stages.at(-1)));
    });
  };
}

// All classes in their order, or the most probable ones of many.
export function strongest(probabilities, count = probabilities.length) {
  const all = Array.from({ length: count }, (_, i) => i);
  return count <= MOST_CLASSES ? all : all.sort((a, b) => probabilities[b] - probabilities[a]).slice(0, MOST_CLASSES);
}

function say(model, stages) {
  if (!model) return "";
  if (!stages.length)
    return "A CNN has no row of tokens that passes from block to block, so it cannot be asked halfway.";
  return "The answer if it stopped here. Its last step was trained on the last row only, so the first are rough.";
}
