// Attention as small multiples: a column for each layer, a row for each head, or a few in one row, all on one colour
// scale.

import { look, spread } from "../attend.js";
import { EVEN_SHARES, attentionColour, cssColour } from "../colour.js";
import { byId, el, keep, setText } from "../dom.js";
import { listenToMap, paintMap } from "./maps.js";

const MOST_SIDE = 124;
const LEAST_SIDE = 36;
const GAP = 8;
const ROOMY = 92; // a side from which a label has room for words
const FEW = 4; // maps that fit into one row

const OF_CNN =
  "A CNN has no attention: each of its filters sees only its neighbourhood, wherever it is. " +
  "Choose a Vision Transformer to see who looks where.";
const WITHOUT =
  "This network was trained without attention: its tokens are never mixed before the end, " +
  "so there is nothing to show here.";
const WITH =
  "In each layer every token takes from the others; each head decides in its own way from which. " +
  "Bright: much is taken there. Point at a patch to see its own look.";

export function createAttention(store) {
  const maps = byId("maps");
  let squares = null;
  byId("attention-key").append(...key());

  return function render({ state, mark, model, reading }) {
    const layers = reading?.attention ?? [];
    const has = layers.length > 0 && layers[0].heads > 0;
    setText(byId("attention-say"), say(model, has));
    setText(byId("attention-whose"), has ? whose(model, mark, layers) : "");
    maps.hidden = byId("attention-key").hidden = !has;
    if (!has) return;
    squares = model.squares;
    const heads = layers[0].heads;
    const patches = squares.grid ** 2;
    const columns = heads * layers.length <= FEW ? heads * layers.length : layers.length;
    const side = Math.min(MOST_SIDE, Math.max(LEAST_SIDE, Math.floor(maps.clientWidth / columns) - GAP));
    maps.style.gridTemplateColumns = `repeat(${columns}, ${side}px)`;
    const figures = keep(maps, layers.length * heads, () => {
      const canvas = el("canvas", { class: "map", role: "img" });
      listenToMap(canvas, store, () => squares);
      return el("figure", {}, canvas, el("figcaption"));
    });
    byId("maps-key").hidden = side > ROOMY;
    layers.forEach((layer, depth) => {
      for (let head = 0; head < heads; head++) {
        const place = columns > layers.length ? depth * heads + head : head * layers.length + depth;
        const [canvas, caption] = figures[place].children;
        const shares = look(layer, head, patches, mark);
        const over = Math.round(spread(shares));
        canvas.style.width = canvas.style.height = `${side}px`;
        paintMap(canvas, shares, (share) => attentionColour(share, patches), {
          squares,
          image: reading.image,
          channels: model.config.channels,
          mark,
          hidden: state.hidden,
          side,
        });
        canvas.setAttribute("aria-label", `Layer ${depth + 1}, head ${head + 1}: spread over about ${over} patches`);
        setText(
          caption,
          side > ROOMY
            ? `layer ${depth + 1}, head ${head + 1}\n≈ ${over} patches`
            : `${depth + 1}.${head + 1} ≈ ${over}`,
        );
      }
    });
  };
}

function say(model, has) {
  if (!model) return "";
  if (model.config.arch === "cnn") return OF_CNN;
  if (!has) return WITHOUT;
  return WITH;
}

// One short line, whatever is marked: nothing may move under the pointer.
function whose(model, mark, layers) {
  if (mark !== null) return `patch ${mark + 1} looks`;
  return layers[0].tokens > model.squares.grid ** 2 ? "the class token looks" : "all patches look, on average";
}

function key() {
  const bar = el("span", { class: "ramp", "aria-hidden": "true" });
  for (let i = 0; i < 24; i++) {
    const cell = el("i");
    cell.style.background = cssColour(attentionColour((EVEN_SHARES * (i / 23) ** 2) / 100, 100));
    bar.append(cell);
  }
  return [
    el("span", {}, "nothing"),
    bar,
    el("span", {}, `${EVEN_SHARES} × an even share`),
    el("span", { class: "more", id: "maps-key" }, "l.h ≈ n: layer l, head h, spread over about n patches"),
  ];
}
