// A map: one coloured square for each patch, the drawing's outline on top, the marked patch framed, hidden ones crossed out.

import { cssColour } from "../colour.js";
import { outlineOf } from "../contour.js";
import { surface } from "../dom.js";

/** @import { Colour } from "../colour.js" */
/** @import { Squares } from "../net/model.js" */
/** @import { Store } from "../state.js" */
/**
 * image: the network's input [size, size, channels]; mark: the marked patch. side: in CSS pixels, by default the
 * canvas's own.
 * @typedef {object} Painting
 * @property {Squares} squares
 * @property {Float32Array} image
 * @property {1 | 3} channels
 * @property {number | null} mark
 * @property {number[]} hidden
 * @property {number} [side]
 *
 * @typedef {[number, number, number]} Place  left, top and side in CSS pixels
 */

/**
 * values: one for each patch.
 * @param {HTMLCanvasElement} canvas @param {Float32Array} values @param {(value: number) => Colour} colour
 * @param {Painting} painting
 */
export function paintMap(canvas, values, colour, { squares, image, channels, mark, hidden, side }) {
  const width = side ?? canvas.clientWidth;
  const context = surface(canvas, width, width);
  const unit = width / squares.size;
  context.fillStyle = "#fff"; // what no patch covers
  context.fillRect(0, 0, width, width);
  values.forEach((value, patch) => {
    const [x, y, w] = place(squares, patch, unit);
    context.fillStyle = cssColour(colour(value));
    context.fillRect(x, y, w + 0.4, w + 0.4);
  });
  for (const patch of hidden) cross(context, place(squares, patch, unit));
  const outline = outlineOf(image, squares.size, channels);
  if (outline) trace(context, outline, unit);
  if (mark !== null) frame(context, place(squares, mark, unit));
}

/**
 * @param {Squares} squares @param {number} patch @param {number} unit
 * @returns {Place}
 */
function place({ grid, side, margin }, patch, unit) {
  return [(margin + side * (patch % grid)) * unit, (margin + side * Math.floor(patch / grid)) * unit, side * unit];
}

/**
 * The patch under the pointer, or null.
 * @param {HTMLCanvasElement} canvas @param {MouseEvent} event @param {Squares} squares
 */
function patchAt(canvas, event, { grid, side, margin, size }) {
  const box = canvas.getBoundingClientRect();
  const column = Math.floor((((event.clientX - box.left) / box.width) * size - margin) / side);
  const row = Math.floor((((event.clientY - box.top) / box.height) * size - margin) / side);
  return row >= 0 && row < grid && column >= 0 && column < grid ? row * grid + column : null;
}

/**
 * Pointing at a map marks the patch everywhere; a click follows or hides it.
 * @param {HTMLCanvasElement} canvas @param {Store} store @param {() => Squares | null} squaresNow
 */
export function listenToMap(canvas, store, squaresNow) {
  /** @param {MouseEvent} event */
  const at = (event) => {
    const squares = squaresNow();
    return squares && patchAt(canvas, event, squares);
  };
  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerType === "mouse") store.set({ hover: at(event) });
  });
  canvas.addEventListener("pointerleave", () => store.set({ hover: null }));
  canvas.addEventListener("click", (event) => {
    const patch = at(event);
    if (patch !== null) tap(store, patch);
  });
}

/**
 * What a click on a patch does: follow or hide it, as chosen.
 * @param {Store} store @param {number} patch
 */
export function tap(store, patch) {
  const { tap: does, query, hidden } = store.get();
  if (does === "follow") store.set({ query: query === patch ? null : patch });
  else store.set({ hidden: hidden.includes(patch) ? hidden.filter((p) => p !== patch) : [...hidden, patch] });
}

/**
 * @param {CanvasRenderingContext2D} context @param {Path2D} outline @param {number} unit CSS pixels for a pixel of it
 */
function trace(context, outline, unit) {
  context.save();
  context.scale(unit, unit);
  context.lineWidth = 1 / unit;
  context.lineCap = "round";
  context.strokeStyle = "rgb(27 36 48 / 80%)";
  context.stroke(outline);
  context.restore();
}

/** @param {CanvasRenderingContext2D} context @param {Place} place */
function frame(context, [x, y, w]) {
  context.lineWidth = 3.5;
  context.strokeStyle = "#14060e";
  context.strokeRect(x + 0.5, y + 0.5, w - 1, w - 1);
  context.lineWidth = 1.8;
  context.strokeStyle = "#ff6fb5";
  context.strokeRect(x + 0.5, y + 0.5, w - 1, w - 1);
}

/** @param {CanvasRenderingContext2D} context @param {Place} place */
function cross(context, [x, y, w]) {
  context.fillStyle = "#16161d";
  context.fillRect(x, y, w, w);
  context.lineWidth = 1;
  context.strokeStyle = "#8a8a99";
  context.beginPath();
  context.moveTo(x + 0.25 * w, y + 0.25 * w);
  context.lineTo(x + 0.75 * w, y + 0.75 * w);
  context.moveTo(x + 0.75 * w, y + 0.25 * w);
  context.lineTo(x + 0.25 * w, y + 0.75 * w);
  context.stroke();
}
