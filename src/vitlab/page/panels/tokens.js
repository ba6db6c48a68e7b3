// The row of tokens: every patch once, side by side, and arcs for who takes from whom in the last layer.

import { byId, css, drawPatch, picture, surface } from "../dom.js";
import { meanOfHeads } from "../attend.js";

const ROW = 26; // pixels that the row itself needs at most
const HEIGHT = 88;
const MOST_TOKENS = 300; // of more the links are not sorted
const ARCS = 70; // the strongest are drawn

export function createTokens(store) {
  const canvas = byId("tokens");
  let geometry = null;
  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "mouse" || !geometry) return;
    const box = canvas.getBoundingClientRect();
    const patch = Math.floor((event.clientX - box.left) / geometry.step) - geometry.first;
    store.set({ hover: patch >= 0 && patch < geometry.patches ? patch : null });
  });
  canvas.addEventListener("pointerleave", () => store.set({ hover: null }));

  return function render({ mark, state, model, reading }) {
    canvas.hidden = !reading || model.config.arch === "cnn";
    if (canvas.hidden) return;
    const { squares, config } = model;
    const patches = squares.grid ** 2;
    const tokens = reading.attention[0]?.tokens ?? patches;
    const first = tokens - patches;
    const width = canvas.clientWidth;
    const step = width / tokens;
    const side = Math.min(step - Math.min(4, 0.2 * step), ROW);
    geometry = { step, first, patches };
    const context = surface(canvas, width, HEIGHT);
    const top = HEIGHT - side - 4;
    const middle = (token) => (token + 0.5) * step;
    const whole = picture(reading.image, squares.size, squares.size, config.channels);
    if (reading.attention.length && tokens <= MOST_TOKENS)
      paintArcs(
        context,
        strongest(reading.attention.at(-1), mark === null ? null : first + mark),
        middle,
        top - 3,
        mark === null,
      );
    context.imageSmoothingEnabled = false;
    for (let token = 0; token < tokens; token++) {
      const x = middle(token) - side / 2;
      const patch = token - first;
      if (patch < 0) paintClass(context, x, top, side);
      else paintToken(context, whole, squares, patch, x, top, side, state.hidden.includes(patch));
      if (patch === mark && mark !== null) {
        context.lineWidth = 2;
        context.strokeStyle = css("--mark");
        context.strokeRect(x - 1.5, top - 1.5, side + 3, side + 3);
      }
    }
  };
}

function paintToken(context, whole, squares, patch, x, y, w, hidden) {
  drawPatch(context, whole, squares, patch, x, y, w);
  context.lineWidth = 1;
  context.strokeStyle = css(hidden ? "--faint" : "--edge");
  context.strokeRect(x, y, w, w);
}

// The class token is no patch: a disc.
function paintClass(context, x, y, w) {
  context.fillStyle = css("--accent");
  context.beginPath();
  context.arc(x + w / 2, y + w / 2, w / 2, 0, 2 * Math.PI);
  context.fill();
}

// [from, to, weight] of the strongest links, or of those of one token.
function strongest(layer, query) {
  const { tokens } = layer;
  const mean = meanOfHeads(layer);
  const links = [];
  for (let from = 0; from < tokens; from++) {
    if (query !== null && from !== query) continue;
    for (let to = 0; to < tokens; to++) if (to !== from) links.push([from, to, mean[from * tokens + to]]);
  }
  return links.sort((a, b) => b[2] - a[2]).slice(0, ARCS);
}

function paintArcs(context, links, middle, base, all) {
  if (!links.length) return;
  const most = links[0][2];
  context.strokeStyle = css(all ? "--accent" : "--mark");
  for (const [from, to, weight] of links.reverse()) {
    const [a, b] = [middle(from), middle(to)];
    const rise = Math.min(base - 3, 8 + Math.abs(b - a) * 0.34);
    context.globalAlpha = (all ? 0.5 : 0.9) * (weight / most) ** 1.5;
    context.lineWidth = 0.6 + (all ? 1 : 2) * (weight / most);
    context.beginPath();
    context.moveTo(a, base);
    context.bezierCurveTo(a, base - rise * 1.25, b, base - rise * 1.25, b, base);
    context.stroke();
  }
  context.globalAlpha = 1;
}
