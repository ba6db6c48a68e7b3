// The visitor's image cut into fewer and into more patches than the network's own: small pictures for the story.

import { byId, drawPatch, el, keep, part, picture, setAttribute, setText, surface } from "../dom.js";
import { counted } from "./vector.js";

/** @import { Squares } from "../net/model.js" */
/** @import { Subject } from "./chapters.js" */

const MOST = 4; // pictures
const SIDE = 76; // pixels
const GAP = 1; // between patches

/**
 * Shows them for a subject, hides them for null, and if there is only one way to cut the image.
 * @param {Subject | null} subject
 */
export function paintGrids(subject) {
  const list = byId("story-grids");
  const all = subject ? gridsOf(subject.model.squares) : [];
  list.hidden = all.length < 2;
  if (subject === null || list.hidden) return;
  const { model, reading } = subject;
  const { squares, config, views } = model;
  const whole = picture(reading.image, squares.size, squares.size, config.channels);
  const items = keep(list, all.length, () => el("li", {}, el("canvas", { "aria-hidden": "true" }), el("span")));
  items.forEach((item, i) => {
    const { grid, side } = all[i];
    const pairs = views.attention ? `\n${counted(grid ** 4)} pairs` : "";
    setText(part(item, "span"), `${grid ** 2} patches\nof ${side} × ${side}${pairs}`);
    setAttribute(item, "aria-current", String(grid === squares.grid));
    paint(part(item, "canvas"), whole, all[i]);
  });
}

/**
 * The patches that fill the same part of the image: the network's own, and those nearest to twice and four times as wide
 * and to half as wide, as far as there are any; the widest first.
 * @param {Squares} own
 */
export function gridsOf(own) {
  const across = own.grid * own.side;
  const grids = Array.from({ length: across }, (_, i) => i + 1).filter(
    (grid) => grid === own.grid || (grid > 1 && across >= 2 * grid && across % grid === 0),
  );
  const near = [1, 1 / 2, 2, 1 / 4, 1 / 8, 4].map((times) => nearest(grids, own.grid * times));
  const some = [...new Set(near)].slice(0, MOST).sort((a, b) => a - b);
  return some.map((grid) => ({ ...own, grid, side: across / grid }));
}

/**
 * The one whose ratio to `wanted` is the smallest.
 * @param {number[]} grids @param {number} wanted
 */
function nearest(grids, wanted) {
  const off = (/** @type {number} */ grid) => Math.abs(Math.log(grid / wanted));
  return grids.reduce((best, grid) => (off(grid) < off(best) ? grid : best));
}

/** @param {HTMLCanvasElement} canvas @param {HTMLCanvasElement} whole @param {Squares} squares */
function paint(canvas, whole, squares) {
  const context = surface(canvas, SIDE, SIDE);
  context.fillStyle = "#8d949e"; // seen beside black and beside white, in light and in dark
  context.fillRect(0, 0, SIDE, SIDE);
  context.imageSmoothingEnabled = false;
  const step = (SIDE + GAP) / squares.grid;
  for (let patch = 0; patch < squares.grid ** 2; patch++) {
    const [x, y] = [(patch % squares.grid) * step, Math.floor(patch / squares.grid) * step];
    drawPatch(context, whole, squares, patch, x, y, step - GAP);
  }
}
