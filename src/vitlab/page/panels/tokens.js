// The row of tokens: every patch once, side by side, and arcs for what they take from each other in the last layer.

import { meanOfHeads } from "../attend.js";
import { ATTENTION_LINE } from "../colour.js";
import { byId, css, drawPatch, picture, surface } from "../dom.js";

/** @import { View } from "../main.js" */
/** @import { Layer, Squares } from "../net/model.js" */
/** @import { Store } from "../state.js" */
/** @typedef {{ from: number, to: number, weight: number }} Link */

const ROW = 26; // pixels that the row itself needs at most
const HEIGHT = 88;
const MOST_TOKENS = 300; // with more, the links are not drawn
const ARCS = 70; // the strongest are drawn

/** @param {Store} store @param {typeof byId} [find] the elements of the panel, by the ids of the first network's */
export function createTokens(store, find = byId) {
  const canvas = find("tokens", HTMLCanvasElement);
  let [step, first, patches] = [0, 0, 0];
  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "mouse" || step === 0) return;
    const box = canvas.getBoundingClientRect();
    const patch = Math.floor((event.clientX - box.left) / step) - first;
    store.set({ hover: patch >= 0 && patch < patches ? patch : null });
  });
  canvas.addEventListener("pointerleave", () => store.set({ hover: null }));

  /** @param {View} view */
  return function render({ mark, state, model, reading }) {
    canvas.hidden = !model?.views.tokens || !reading;
    if (!model?.views.tokens || !reading) return;
    const { squares, config } = model;
    patches = squares.grid ** 2;
    const tokens = reading.attention[0]?.tokens ?? patches;
    first = tokens - patches;
    const width = canvas.clientWidth;
    step = width / tokens;
    const side = Math.min(step - Math.min(4, 0.2 * step), ROW);
    const context = surface(canvas, width, HEIGHT);
    const top = HEIGHT - side - 4;
    if (reading.attention.length && tokens <= MOST_TOKENS) {
      const last = reading.attention[reading.attention.length - 1];
      const links = strongest(last, mark === null ? null : first + mark);
      paintArcs(context, links, step, top - 3, mark === null);
    }
    const whole = picture(reading.image, squares.size, squares.size, config.channels);
    context.imageSmoothingEnabled = false;
    for (let token = 0; token < tokens; token++) {
      const x = (token + 0.5) * step - side / 2;
      const patch = token - first;
      if (patch < 0) paintClass(context, x, top, side);
      else paintToken(context, whole, squares, patch, x, top, side, state.hidden.includes(patch));
      if (patch === mark) {
        context.lineWidth = 2;
        context.strokeStyle = css("--mark");
        context.strokeRect(x - 1.5, top - 1.5, side + 3, side + 3);
      }
    }
  };
}

/**
 * @param {CanvasRenderingContext2D} context @param {HTMLCanvasElement} whole @param {Squares} squares
 * @param {number} patch @param {number} x @param {number} y @param {number} w @param {boolean} hidden
 */
function paintToken(context, whole, squares, patch, x, y, w, hidden) {
  drawPatch(context, whole, squares, patch, x, y, w);
  context.lineWidth = 1;
  context.strokeStyle = css(hidden ? "--faint" : "--edge");
  context.strokeRect(x, y, w, w);
}

/**
 * The class token is not a patch: a disc.
 * @param {CanvasRenderingContext2D} context @param {number} x @param {number} y @param {number} w
 */
function paintClass(context, x, y, w) {
  context.fillStyle = css("--accent");
  context.beginPath();
  context.arc(x + w / 2, y + w / 2, w / 2, 0, 2 * Math.PI);
  context.fill();
}

/**
 * The strongest links, of all tokens or of one.
 * @param {Layer} layer @param {number | null} query
 */
function strongest(layer, query) {
  const { tokens } = layer;
  const mean = meanOfHeads(layer);
  /** @type {Link[]} */
  const links = [];
  for (let from = 0; from < tokens; from++) {
    if (query !== null && from !== query) continue;
    for (let to = 0; to < tokens; to++) {
      if (to !== from) links.push({ from, to, weight: mean[from * tokens + to] });
    }
  }
  return links.sort((a, b) => b.weight - a.weight).slice(0, ARCS);
}

/**
 * The weakest first: the strongest come out on top.
 * @param {CanvasRenderingContext2D} context @param {Link[]} links @param {number} step @param {number} base
 * @param {boolean} all
 */
function paintArcs(context, links, step, base, all) {
  const most = links[0]?.weight ?? 0;
  if (most === 0) return; // there are none, or attention is switched off
  context.strokeStyle = ATTENTION_LINE;
  for (const { from, to, weight } of links.toReversed()) {
    const [a, b] = [(from + 0.5) * step, (to + 0.5) * step];
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
