// How the map of images looks, and what it says: colours of classes, names, sentences.

import { css, el } from "../dom.js";
import { nearest } from "../map.js";
import { argmax, percent } from "../net/numbers.js";

/** @import { DigitMap, Place } from "../map.js" */
/** @import { Config } from "../net/config.js" */
/** @import { Shown } from "../reader.js" */

const AROUND = 15; // images among which a drawing lies
export const MOST_NAMES = 30; // classes whose names are written on the map

export const isDark = () => window.matchMedia("(prefers-color-scheme: dark)").matches;

/**
 * The sprite in colours of the classes: ink on nothing for drawings, photos in a frame.
 * @param {DigitMap} map @param {Config} config
 */
export function sheetOf({ side, channels, columns, images, labels }, { classes, drawing }) {
  const sheet = el("canvas", { width: columns * side, height: Math.ceil(images.length / columns) * side });
  const context = /** @type {CanvasRenderingContext2D} */ (sheet.getContext("2d"));
  const cell = new ImageData(side, side);
  const frame = Math.max(1, Math.round(side / 10));
  const colours = classes.map((_, label) => classColour(label, classes.length));
  images.forEach((pixels, i) => {
    const colour = colours[labels[i]];
    for (let p = 0; p < side * side; p++) {
      const [x, y] = [p % side, Math.floor(p / side)];
      const isFrame = Math.min(x, y, side - 1 - x, side - 1 - y) < frame;
      const shown = drawing !== null || isFrame ? colour : [0, 1, 2].map((c) => pixels[channels === 3 ? 3 * p + c : p]);
      for (let c = 0; c < 3; c++) cell.data[4 * p + c] = shown[c];
      const ink = drawing === "mnist-drawing-dark" ? 255 - pixels[p * channels] : pixels[p * channels];
      cell.data[4 * p + 3] = drawing === null ? 255 : ink;
    }
    context.putImageData(cell, (i % columns) * side, Math.floor(i / columns) * side);
  });
  return sheet;
}

/**
 * Red, green and blue of a class: hues all around, neighbours in two brightnesses, each as bright as the others look. The
 * names on the map and the images themselves tell classes, too.
 * @param {number} label @param {number} count
 */
function classColour(label, count) {
  const context = /** @type {CanvasRenderingContext2D} */ (el("canvas", { width: 1, height: 1 }).getContext("2d"));
  const lightness = (isDark() ? 0.72 : 0.5) + (label % 2 ? 0.09 : 0);
  context.fillStyle = `oklch(${lightness} 0.17 ${((360 * label) / count + 20) % 360})`;
  context.fillRect(0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
}

/** @param {CanvasRenderingContext2D} context @param {string} name @param {Place} place */
export function paintName(context, name, [x, y]) {
  context.font = `700 ${name.length > 2 ? 14 : 24}px ${css("--sans")}`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.lineJoin = "round";
  context.lineWidth = 6;
  context.strokeStyle = css("--card");
  context.strokeText(name, x, y);
  context.fillStyle = css("--ink");
  context.fillText(name, x, y);
}

/** @param {DigitMap} map @param {number} index */
export function imageOf({ side, channels, images }, index) {
  const image = new ImageData(side, side);
  image.data.fill(255);
  for (let p = 0; p < side * side; p++) {
    for (let c = 0; c < 3; c++) image.data[4 * p + c] = images[index][channels === 3 ? 3 * p + c : p];
  }
  return image;
}

/** @param {DigitMap} map @param {Config} config */
export function say({ points, data, explained }, { classes }) {
  const share = percent(explained[0] + explained[1], 0);
  const many = classes.length > MOST_NAMES ? "" : " Large names mark the middle of each class.";
  return (
    `${points.length.toLocaleString("en")} images of ${data}, placed by what this network makes of them (along the two main ` +
    `directions of its features, with ${share} of their variance): what looks alike to it lies close together.${many} ` +
    "The ring is your drawing; it moves while you draw. Click an image to have it read, or move with the arrow keys and press Enter."
  );
}

/** @param {DigitMap} map @param {Config} config @param {number} index */
export function about({ labels, answers, points }, { classes }, index) {
  const [label, answer] = [classes[labels[index]], classes[answers[index]]];
  return `Image ${index + 1} of ${points.length}: ${label}, read as ${answer}${label === answer ? "" : ", a mistake"}`;
}

/**
 * @param {DigitMap} map @param {Config} config @param {Place} place @param {Shown} reading
 * @param {number | null} epoch
 */
export function among({ labels, points }, { classes }, place, { probabilities }, epoch) {
  /** @type {Map<number, number>} */
  const counts = new Map();
  for (const i of nearest(points, place, AROUND)) counts.set(labels[i], (counts.get(labels[i]) ?? 0) + 1);
  const [[most, count]] = [...counts].sort((a, b) => b[1] - a[1]);
  const best = argmax(probabilities);
  return (
    `Of the ${AROUND} images nearest to your drawing here, ${count} are labelled ${classes[most]}; ` +
    `with all its features, the network says ${classes[best]} (${percent(probabilities[best], 0)}).` +
    (epoch === null ? "" : " The images lie where the finished network puts them.")
  );
}
