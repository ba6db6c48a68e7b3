// A map of images in the plane (vitlab/export/map.py): its files, and where a drawing lies on it.

import { openLesson } from "./learn/lesson.js";
import { bytes, json } from "./resources.js";

/** @import { Progress } from "./resources.js" */
/** @typedef {[number, number]} Place */
/**
 * map.json. points: where the images lie; answers: what the network says to them; mean [F] and axes [2, F]: where
 * features lie; explained: the axes' shares of the variance.
 * @typedef {object} MapFacts
 * @property {string | null} data
 * @property {number} side
 * @property {1 | 3} channels
 * @property {number} columns
 * @property {string} sprite
 * @property {number[]} labels
 * @property {number[]} answers
 * @property {Place[]} points
 * @property {number[]} mean
 * @property {[number[], number[]]} axes
 * @property {[number, number]} explained
 *
 * @typedef {MapFacts & { images: Uint8Array[] }} DigitMap
 */

/**
 * Rejects with an Error of one sentence.
 * @param {string} model @param {Progress} progress
 * @returns {Promise<DigitMap>}
 */
export async function loadMap(model, progress) {
  /** @type {MapFacts} */
  const facts = await json(`models/${model}/map.json`);
  const png = await bytes(facts.sprite, progress);
  const { side, channels, columns, points } = facts;
  const { images } = await openLesson(
    png,
    /** @type {any} */ ({ side, channels, columns, train: points.length, held: 0, labels: "" }),
  );
  return { ...facts, images };
}

/**
 * Where an image with these traits lies; the features come first among them (net/novelty.js).
 * @param {Float64Array} traits @param {Pick<MapFacts, "mean" | "axes">} map
 * @returns {Place}
 */
export function placeOf(traits, { mean, axes }) {
  /** @param {number[]} axis */
  const along = (axis) => axis.reduce((sum, weight, i) => sum + weight * (traits[i] - mean[i]), 0);
  return [along(axes[0]), along(axes[1])];
}

/**
 * The nearest images to a place, the nearest first.
 * @param {Place[]} points @param {Place} place @param {number} count
 */
export function nearest(points, [x, y], count) {
  const far = points.map(([a, b]) => (a - x) ** 2 + (b - y) ** 2);
  return far
    .map((_, i) => i)
    .sort((a, b) => far[a] - far[b])
    .slice(0, count);
}

/**
 * The image to step to from `from` with an arrow key: the nearest one in that direction (a cone of 45 degrees either
 * side), or `from` itself at the edge. The second axis points up.
 * @param {Place[]} points @param {number} from @param {Place} direction
 */
export function stepTo(points, from, [dx, dy]) {
  const [x, y] = points[from];
  let [best, shortest] = [from, Number.POSITIVE_INFINITY];
  points.forEach(([a, b], i) => {
    const along = (a - x) * dx + (b - y) * dy;
    const across = Math.abs((a - x) * dy) + Math.abs((b - y) * dx);
    if (along > 0 && across <= along && Math.hypot(along, across) < shortest) {
      [best, shortest] = [i, Math.hypot(along, across)];
    }
  });
  return best;
}

/**
 * For each class with images, the image nearest to the middle of its images: where its name is written.
 * @param {Pick<MapFacts, "labels" | "points">} map
 * @returns {Map<number, Place>}
 */
export function middles({ labels, points }) {
  const found = new Map();
  for (const label of new Set(labels)) {
    const own = points.filter((_, i) => labels[i] === label);
    /** @param {0 | 1} axis */
    const median = (axis) => own.map((point) => point[axis]).sort((a, b) => a - b)[Math.floor(own.length / 2)];
    found.set(label, [median(0), median(1)]);
  }
  return found;
}
