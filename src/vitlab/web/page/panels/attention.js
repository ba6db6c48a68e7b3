// Attention as small multiples: a column for each layer, a row for each head, all on one colour scale.

import { look, spread } from "../attend.js";
import { EVEN_SHARES, attentionColour, cssColour } from "../colour.js";
import { byId, el, keep, setText } from "../dom.js";
import { listenToMap, paintMap } from "./maps.js";

const MOST_SIDE = 124;
const LEAST_SIDE = 36;

export function createAttention(store) {
  const maps = byId("maps");
  let squares = null;
  byId("attention-key").append(...key());

  return function render({ state, mark, model, reading }) {
    const layers = reading?.attention ?? [];
    const has = layers.length > 0 && layers[0].heads > 0;
    setText(byId("attention-say"), say(model, has, mark, layers));
    maps.hidden = byId("attention-key").hidden = !has;
    if (!has) return;
    squares = model.squares;
    const heads = layers[0].heads;
    const patches = squares.grid ** 2;
    const side = Math.min(MOST_SIDE, Math.max(LEAST_SIDE, Math.floor(maps.clientWidth / layers.length) - 8));
    maps.style.gridTemplateColumns = `repeat(${layers.length}, ${side}px)`;
    const figures = keep(maps, layers.length * heads, () => {
      const canvas = el("canvas", { class: "map", role: "img" });
      listenToMap(canvas, store, () => squares);
      return el("figure", {}, canvas, el("figcaption"));
    });
    for (let head = 0; head < heads; head++) {
      layers.forEach((layer, depth) => {
        const [canvas, caption] = figures[head * layers.length + depth].children;
        const shares = look(layer, head, patches, mark);
        const over = Math.round(spread(shares));
        canvas.style.width = canvas.style.height = `${side}px`;
        paintMap(canvas, shares, (share) => attentionColour(share, patches), {
          squares, image: reading.image, channels: model.config.channels, mark, hidden: state.hidden, side,
        });
        canvas.setAttribute("aria-label", `Layer ${depth + 1}, head ${head + 1}: spread over about ${over} patches`);
        setText(caption, head === 0 || layers.length < 5 ? `${side > 70 ? `layer ${depth + 1}, head ${head + 1}: ` : `${depth + 1}: `}≈ ${over}` : `≈ ${over}`);
      });
    }
  };
}

function say(model, has, mark, layers) {
  if (!model) return "";
  if (model.config.arch === "cnn") return "A CNN has no attention: each of its filters sees only its neighbourhood, wherever it is. Choose a Vision Transformer to see who looks where.";
  if (!has) return "This network was trained without attention: its tokens are never mixed before the end, so there is nothing to show here.";
  const whose = mark !== null ? `Here patch ${mark + 1} looks.` : layers[0].tokens > model.squares.grid ** 2 ? "Here the class token looks." : "Here all patches look, on average; point at one to see its own look.";
  return `In each layer every token takes from the others; each head decides in its own way from which. Bright: much is taken there. ${whose}`;
}

function key() {
  const bar = el("span", { class: "ramp", "aria-hidden": "true" });
  for (let i = 0; i < 24; i++) {
    const cell = el("i");
    cell.style.background = cssColour(attentionColour((EVEN_SHARES * (i / 23) ** 2) / 100, 100));
    bar.append(cell);
  }
  return [el("span", {}, "nothing"), bar, el("span", {}, `${EVEN_SHARES} × an even share`), el("span", { class: "more" }, "≈ n: spread over about n patches")];
}
