// Attention as small multiples: a column for each layer and a row for each head, or a few maps in one row, all on one
// colour scale.

import { attentionFrom, spread } from "../attend.js";
import { attentionColour, EVEN_SHARES } from "../colour.js";
import { byId, byTouch, childrenOf, el, keep, part, setAttribute, setText } from "../dom.js";
import { scaleKey } from "./key.js";
import { listenToMap, paintMap } from "./maps.js";

/** @import { View } from "../main.js" */
/** @import { Squares } from "../net/model.js" */
/** @import { Store } from "../state.js" */
/** @import { Loaded } from "../net/worker.js" */

const MOST_SIDE = 124;
const LEAST_SIDE = 36;
const GAP = 8;
const ROOMY = 92; // from this side on, a label has room for words
const FEW = 4; // maps that fit into one row

const NO_TOKENS =
  "A CNN has no attention: each of its filters sees only a small neighbourhood, the same way everywhere. " +
  "Choose a Vision Transformer to see attention.";
const NO_ATTENTION =
  "This network was trained without attention: its tokens do not mix until the end, so there is nothing to show.";
const MIXES =
  "An MLP-Mixer has no attention: in each block, dense layers mix all tokens with learned weights for each place, the " +
  "same for every drawing. So there are no shares to show here. Open a patch to see what it takes in.";
const LEGEND = "b.h ≈ n: block b, head h, as spread out as an even look at n patches";
const NOTHING = "Nothing is drawn, so there is nothing to look at.";
const EXPLAINED =
  "In each block, every token takes something from all tokens; each head decides in its own way how much from which. " +
  "Orange to red: more than an even share; blue: less. “Over ≈ n”: as spread out as an even look at n patches.";

/** @param {Store} store @param {typeof byId} [find] the elements of the panel, by the ids of the first network's */
export function createAttention(store, find = byId) {
  const maps = find("maps");
  /** @type {Squares | null} */
  let squares = null;
  const legend = el("span", { class: "more" }, LEGEND);
  const largest = el("span");
  find("attention-key").append(shareKey(), largest, legend);

  /** @param {View} view */
  return function render({ state, mark, model, reading, empty }) {
    const layers = reading?.attention ?? [];
    setText(find("attention-say"), empty && model?.views.attention ? NOTHING : say(model));
    setText(find("attention-whose"), model && layers.length ? whose(model, mark, layers[0].tokens) : "");
    maps.hidden = find("attention-key").hidden = layers.length === 0;
    if (!model || !reading || !layers.length) return;
    squares = model.squares;
    const { heads } = layers[0];
    const patches = squares.grid ** 2;
    const columns = heads * layers.length <= FEW ? heads * layers.length : layers.length;
    const side = Math.min(MOST_SIDE, Math.max(LEAST_SIDE, Math.floor(maps.clientWidth / columns) - GAP));
    const roomy = side > ROOMY;
    const painting = { squares, image: reading.image, channels: model.config.channels, mark, hidden: state.hidden };
    maps.style.gridTemplateColumns = `repeat(${columns}, ${side}px)`;
    const figures = keep(maps, layers.length * heads, () => {
      const canvas = el("canvas", { class: "map", role: "img" });
      listenToMap(canvas, store, () => squares);
      return el("figure", {}, canvas, el("figcaption"));
    });
    legend.hidden = roomy;
    let most = 0;
    layers.forEach((layer, depth) => {
      for (let head = 0; head < heads; head++) {
        const place = columns > layers.length ? depth * heads + head : head * layers.length + depth;
        const [canvas, caption] = [part(figures[place], "canvas"), childrenOf(figures[place])[1]];
        const shares = attentionFrom(layer, head, patches, mark);
        const off = state.cuts.includes(`b${depth + 1}`) || state.cuts.includes(`h${depth + 1}.${head + 1}`);
        const over = Math.round(spread(shares));
        most = Math.max(most, patches * Math.max(...shares));
        canvas.style.width = canvas.style.height = `${side}px`;
        paintMap(canvas, shares, (share) => attentionColour(share, patches), { ...painting, side });
        const words = off ? "switched off" : `spread over about ${over} patches`;
        setAttribute(canvas, "aria-label", `Block ${depth + 1}, head ${head + 1}: ${words}`);
        const long = `block ${depth + 1}, head ${head + 1}\n${off ? "off" : `over ≈ ${over} patches`}`;
        setText(caption, roomy ? long : `${depth + 1}.${head + 1} ${off ? "off" : `≈ ${over}`}`);
      }
    });
    setText(largest, `times an even share (1/${patches}); ${cutOff(most)}`);
  };
}

/** @param {Loaded | null} model */
function say(model) {
  if (!model) return "";
  if (!model.views.tokens) return NO_TOKENS;
  if (model.views.mixing) return MIXES;
  return model.views.attention
    ? `${EXPLAINED} ${byTouch() ? "Tap" : "Point at"} a patch to see where it looks.`
    : NO_ATTENTION;
}

/**
 * One short line, whatever is marked: nothing may move under the pointer.
 * @param {Loaded} model @param {number | null} mark @param {number} tokens
 */
function whose(model, mark, tokens) {
  if (mark !== null) return `from patch ${mark + 1}`;
  return tokens > model.squares.grid ** 2 ? "from the class token" : "average over all patches";
}

/** @param {number} place from 0 to 1 on the scale */
const shareAt = (place) => (place <= 0.5 ? 2 * place : EVEN_SHARES ** (2 * place - 1));

/**
 * The key of the colours of attention.
 * @param {string[]} [means]
 */
export function shareKey(means) {
  const ticks = [0, 0.5, 1, 2, 4, EVEN_SHARES].map((share) => {
    const place = share <= 1 ? share / 2 : 0.5 + Math.log(share) / Math.log(EVEN_SHARES) / 2;
    return /** @type {[number, string]} */ ([place, share === 0.5 ? "½" : String(share)]);
  });
  return scaleKey((place) => attentionColour(shareAt(place), 1), ticks, means);
}

/**
 * What the scale cuts off.
 * @param {number} most the largest share that is shown
 */
function cutOff(most) {
  if (most <= EVEN_SHARES) return `largest here: ${most.toFixed(1)}`;
  return `${EVEN_SHARES} or more has the same colour (largest here: ${most.toFixed(1)})`;
}
