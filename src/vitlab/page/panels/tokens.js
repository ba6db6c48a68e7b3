// The tokens: every patch once, in a row or a few, and arcs for what they take from each other in the last layer.

import { meanOfHeads } from "../attend.js";
import { ATTENTION_LINE } from "../colour.js";
import { byId, css, drawPatch, picture, setText, surface } from "../dom.js";

/** @import { View } from "../main.js" */
/** @import { Layer, Squares } from "../net/model.js" */
/** @import { Store } from "../state.js" */
/**
 * @typedef {{ from: number, to: number, weight: number }} Link
 * @typedef {{ count: number, each: number, step: number, side: number, height: number }} Rows
 */

const MOST_SIDE = 26; // pixels of a token
const LEAST_STEP = 14; // from one token to the next: narrower rows become several
const ABOVE = 58; // room for the links over one row
const ABOVE_EACH = 30; // and over each of several
const MOST_TOKENS = 300; // with more, the links are not drawn
const ARCS = 70; // the strongest are drawn
const ROW = "The tokens: one for each patch, in the order of the patches.";
const CLASS = "The tokens: the class token (a disc), then one for each patch, in their order.";
const LINKED = " The arcs show what they take from each other in the last block (attention).";

/** @param {Store} store @param {typeof byId} [find] the elements of the panel, by the ids of the first network's */
export function createTokens(store, find = byId) {
  const canvas = find("tokens", HTMLCanvasElement);
  /** @type {Rows | null} */
  let rows = null;
  let [first, patches] = [0, 0];
  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "mouse" || rows === null) return;
    const box = canvas.getBoundingClientRect();
    const row = Math.min(rows.count - 1, Math.floor((event.clientY - box.top) / rows.height));
    const patch = row * rows.each + Math.floor((event.clientX - box.left) / rows.step) - first;
    store.set({ hover: patch >= 0 && patch < patches ? patch : null });
  });
  canvas.addEventListener("pointerleave", () => store.set({ hover: null }));

  /** @param {View} view */
  return function render({ mark, state, model, reading }) {
    canvas.hidden = !model?.views.tokens || !reading;
    const row = model?.config.model.pool === "cls" ? CLASS : ROW;
    const arcs = reading?.attention.length && state.arcs ? LINKED : "";
    setText(find("tokens-say"), canvas.hidden ? "" : row + arcs);
    if (!model?.views.tokens || !reading) return;
    const { squares, config } = model;
    patches = squares.grid ** 2;
    const tokens = reading.attention[0]?.tokens ?? patches;
    first = tokens - patches;
    const linked = state.arcs && reading.attention.length > 0 && tokens <= MOST_TOKENS;
    rows = arrange(tokens, canvas.clientWidth, linked);
    canvas.style.height = `${rows.count * rows.height}px`;
    const context = surface(canvas, canvas.clientWidth, rows.count * rows.height);
    if (linked) {
      const last = reading.attention[reading.attention.length - 1];
      paintArcs(context, strongest(last, mark === null ? null : first + mark), rows, mark === null);
    }
    const whole = picture(reading.image, squares.size, squares.size, config.channels);
    context.imageSmoothingEnabled = false;
    for (let token = 0; token < tokens; token++) {
      const [middle, top] = placeOf(token, rows);
      const { side } = rows;
      const x = middle - side / 2;
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
 * As few rows as leave each token large enough to see, equally long.
 * @param {number} tokens @param {number} width @param {boolean} linked
 * @returns {Rows}
 */
function arrange(tokens, width, linked) {
  const count = Math.ceil(tokens / Math.max(1, Math.floor(width / LEAST_STEP)));
  const each = Math.ceil(tokens / count);
  const step = width / each;
  const side = Math.min(0.84 * step, MOST_SIDE);
  const above = linked ? (count === 1 ? ABOVE : ABOVE_EACH) : 4;
  return { count, each, step, side, height: above + side + 4 };
}

/**
 * The middle and the top of a token.
 * @param {number} token @param {Rows} rows
 */
function placeOf(token, { each, step, side, height }) {
  const row = Math.floor(token / each);
  return [((token % each) + 0.5) * step, (row + 1) * height - side - 4];
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
 * @param {CanvasRenderingContext2D} context @param {Link[]} links @param {Rows} rows @param {boolean} all
 */
function paintArcs(context, links, rows, all) {
  const most = links[0]?.weight ?? 0;
  if (most === 0) return; // there are none, or attention is switched off
  const room = rows.height - rows.side - 10;
  context.strokeStyle = ATTENTION_LINE;
  for (const { from, to, weight } of links.toReversed()) {
    const [[a, top], [b, otherTop]] = [placeOf(from, rows), placeOf(to, rows)];
    const over = Math.min(top, otherTop) - 3 - 1.25 * Math.min(room, 8 + Math.abs(b - a) * 0.34);
    context.globalAlpha = (all ? 0.5 : 0.9) * (weight / most) ** 1.5;
    context.lineWidth = 0.6 + (all ? 1 : 2) * (weight / most);
    context.beginPath();
    context.moveTo(a, top - 3);
    context.bezierCurveTo(a, over, b, over, b, otherTop - 3);
    context.stroke();
  }
  context.globalAlpha = 1;
}
