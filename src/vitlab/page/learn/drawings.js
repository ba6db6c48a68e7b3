// A visitor's own classes: a few drawings of each become images to learn from and to measure with, as lesson.js gives.

import { interval } from "../net/numbers.js";

/** @import { Kind } from "./design.js" */
/**
 * names of the classes; images as "Centre the drawing" makes them, 28 x 28 bytes; labels: the place of each one's class.
 * @typedef {{ names: string[], images: Uint8Array[], labels: number[] }} Collected
 *
 * The first `train` images are to learn from, the other `held` to measure with.
 * @typedef {{ facts: Kind & { train: number, held: number }, images: Uint8Array[], labels: ArrayLike<number> }} Material
 */

export const LEAST = 10; // drawings of each class
const KEPT = 4; // each fourth drawing of a class is kept to measure with
const PASS = 1024; // images in a pass: each class has an equal share, each drawing comes again and again
const SIDE = 28;

/**
 * @param {Collected} collected
 * @returns {Material}
 */
export function materialOf({ names, images, labels }) {
  const classes = names.map((_, label) => images.filter((_image, i) => labels[i] === label));
  const taught = classes.map((some) => some.filter((_, i) => i % KEPT !== KEPT - 1));
  const kept = classes.map((some) => some.filter((_, i) => i % KEPT === KEPT - 1));
  const pass = Array.from({ length: PASS }, (_, i) => {
    const some = taught[i % names.length];
    return some[Math.floor(i / names.length) % some.length];
  });
  const [mean, std] = spread(taught.flat());
  return {
    facts: {
      ...{ data: "your drawings", classes: names, side: SIDE, channels: 1, drawing: "mnist-drawing", background: 0 },
      ...{ mean: [mean], std: [std], train: PASS, held: kept.flat().length },
    },
    images: [...pass, ...kept.flat()],
    labels: [...pass.map((_, i) => i % names.length), ...kept.flatMap((some, label) => some.map(() => label))],
  };
}

/**
 * Mean and standard deviation of all pixels, in 0..1.
 * @param {Uint8Array[]} images
 */
function spread(images) {
  const count = images.length * SIDE * SIDE;
  /** @param {(value: number) => number} of */
  const mean = (of) =>
    images.reduce((sum, one) => sum + one.reduce((all, value) => all + of(value / 255), 0), 0) / count;
  const middle = mean((value) => value);
  return [middle, Math.max(1e-3, Math.sqrt(mean((value) => (value - middle) ** 2)))];
}

/**
 * What a score on so few images says, in words.
 * @param {number} right @param {number} count
 */
export function fewWords(right, count) {
  const [low, high] = interval(right, count).map((share) => Math.round(100 * share));
  return `right on ${right} of ${count} drawings that it does not learn from. So few say little: of new drawings, it may read ${low} to ${high} %`;
}
