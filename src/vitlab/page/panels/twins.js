// Side by side: while a second network is compared, the cards that show what happens inside stand there twice.

import { byId, el, setText } from "../dom.js";
import { sameSquares } from "../reader.js";
import { createAttention } from "./attention.js";
import { createCauses } from "./causes.js";
import { createLens } from "./lens.js";
import { createNeeds } from "./needs.js";
import { createPatches } from "./patches.js";
import { createTokens } from "./tokens.js";

/** @import { View } from "../main.js" */
/** @import { Store } from "../state.js" */

const CARDS = ["patches", "attention", "needs", "lens-card", "causes-card"];
const REFERENCES = ["id", "name", "for", "aria-labelledby", "aria-describedby"];
const OTHER_PATCHES =
  "Its patches are different, so pointing at patches and hiding them works on the first network only.";

/**
 * Copies the cards; to be called before anything is put into them.
 * @param {Store} store
 */
export function createTwins(store) {
  const twins = CARDS.map(doubled);
  byId("exchange").addEventListener("click", () => {
    const { model, compare } = store.get();
    if (compare) store.set({ model: compare, compare: model });
  });
  const remark = el("p", { class: "small" });
  second("patch-grid").parentElement?.before(remark);
  let same = true;
  /** @type {Store} */
  const heard = { ...store, set: (changes) => (same ? store.set(changes) : undefined) }; // other patches, other numbers
  const panels = [
    createPatches(heard, second),
    createTokens(heard, second),
    createAttention(heard, second),
    createNeeds(heard, second),
    createLens(second),
    createCauses(heard, second),
  ];

  /** @param {View} view */
  return function render(view) {
    const { model, model2, reading2, state } = view;
    const shown = Boolean(state.compare && model && model2 && reading2);
    same = sameSquares(model, model2);
    byId("exchange").hidden = byId("compare-what").hidden = !shown;
    second("tap").hidden = !same;
    setText(remark, same ? "" : OTHER_PATCHES);
    for (const { pair, copy, name, name2 } of twins) {
      pair.classList.toggle("both", shown);
      copy.hidden = name.hidden = !shown;
      setText(name, model?.config.name ?? "");
      setText(name2, model2?.config.name ?? "");
    }
    if (!shown) return;
    const { deletion2, causes2, fresh2, empty2 } = view;
    const own = { ...state, cuts: [], ...(same ? {} : { hidden: [], query: null, hover: null }) };
    const seen = {
      model: model2,
      reading: reading2,
      deletion: deletion2,
      causes: causes2,
      fresh: fresh2,
      empty: empty2,
    };
    for (const panel of panels) panel({ ...view, ...seen, state: own, mark: same ? view.mark : null });
  };
}

/** @type {typeof byId} */
const second = (id, kind) => byId(`${id}-2`, kind);

/**
 * A card and its copy, whose ids end in -2, each with its network's name.
 * @param {string} id
 */
function doubled(id) {
  const card = byId(id);
  const copy = /** @type {HTMLElement} */ (card.cloneNode(true));
  for (const element of [copy, ...copy.querySelectorAll("*")]) {
    for (const attribute of REFERENCES) {
      const value = element.getAttribute(attribute);
      if (value) element.setAttribute(attribute, `${value}-2`);
    }
  }
  const [name, name2] = ["whose", "whose other"].map((kind) => el("p", { class: kind }));
  const pair = el("div", { class: "twins" });
  card.replaceWith(pair);
  card.prepend(name);
  copy.prepend(name2);
  copy.classList.add("copy");
  pair.append(card, copy);
  return { pair, copy, name, name2 };
}
