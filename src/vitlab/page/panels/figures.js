// The pictures on the story's card: the image as pixels, sums as bars, and how scores become shares.

import { ABOVE, BELOW } from "../colour.js";
import { byId, childrenOf, css, el, keep, part, picture, setAttribute, setText, surface } from "../dom.js";
import { tied } from "../words.js";

/**
 * Bars of all numbers, up and down from 0; `largest` is as high as the row.
 * @typedef {{ name: string, numbers: Float32Array, largest: number }} Row
 *
 * Rows of bars over each other, and lines of text below.
 * @typedef {{ rows: Row[], lines: string[] }} Sum
 *
 * pixels: the image, its size, the row to frame (or null), and what to say of it. table: its rows, the names of the
 * columns first.
 * @typedef {{ sums?: Sum[], table?: string[][], pixels?: { image: Float32Array, size: number, channels: number,
 *   row: number | null, say: string } }} Figure
 */

const HEIGHT = 26; // pixels of a row of bars
const SIDE = 112; // of the image

/** @param {Figure} figure */
export function paintFigure({ sums = [], table = [], pixels }) {
  const [image, list, shares] = ["pixels", "sums", "table"].map((name) => byId(`story-${name}`));
  image.hidden = !pixels;
  list.hidden = sums.length === 0;
  shares.hidden = table.length === 0;
  if (pixels) paintPixels(image, pixels);
  keep(list, sums.length, () => el("div", { class: "sum" }, el("div"), el("ol"))).forEach((box, i) => {
    paintSum(box, sums[i]);
  });
  paintTable(shares, table);
}

/** @param {HTMLElement} box @param {Sum} sum */
function paintSum(box, { rows, lines }) {
  const [bars, words] = childrenOf(box);
  const made = keep(bars, rows.length, () =>
    el("div", { class: "bar-row" }, el("span"), el("canvas", { role: "img" })),
  );
  made.forEach((row, i) => {
    setText(part(row, "span"), tied(rows[i].name));
    paintBars(part(row, "canvas"), rows[i]);
  });
  keep(words, lines.length, () => el("li")).forEach((line, i) => {
    setText(line, tied(lines[i]));
  });
}

/** @param {HTMLCanvasElement} canvas @param {Row} row */
function paintBars(canvas, { name, numbers, largest }) {
  setAttribute(canvas, "aria-label", `${numbers.length} numbers of ${name}, as bars`);
  const width = canvas.clientWidth;
  if (width === 0) return;
  const context = surface(canvas, width, HEIGHT);
  const step = Math.min(width / numbers.length, 14);
  const middle = HEIGHT / 2;
  context.fillStyle = css("--edge");
  context.fillRect(0, middle - 0.5, step * numbers.length, 1);
  numbers.forEach((value, i) => {
    const high = ((middle - 1) * value) / (largest || 1);
    context.fillStyle = value < 0 ? BELOW : ABOVE;
    context.fillRect(i * step, middle, Math.max(step - 1, 0.7 * step), -high);
  });
}

/** @param {HTMLElement} table @param {string[][]} rows */
function paintTable(table, rows) {
  const [head, body] = childrenOf(table);
  const [names, ...entries] = rows;
  keep(head, names ? 1 : 0, () => el("tr")).forEach((row) => {
    fill(row, names, () => el("th", { scope: "col" }));
  });
  keep(body, entries.length, () => el("tr")).forEach((row, i) => {
    fill(row, entries[i], (column) => (column ? el("td") : el("th", { scope: "row" })));
  });
}

/** @param {HTMLElement} row @param {string[]} texts @param {(column: number) => HTMLElement} make */
function fill(row, texts, make) {
  keep(row, texts.length, make).forEach((one, i) => {
    setText(one, texts[i]);
  });
}

/** @param {HTMLElement} box @param {NonNullable<Figure["pixels"]>} pixels */
function paintPixels(box, { image, size, channels, row, say }) {
  setText(part(box, "p"), say);
  const context = surface(part(box, "canvas"), SIDE, SIDE);
  context.imageSmoothingEnabled = false;
  context.drawImage(picture(image, size, size, channels), 0, 0, SIDE, SIDE);
  const step = SIDE / size;
  context.fillStyle = "rgb(128 136 148 / 45%)";
  for (let i = 1; i < size; i++) {
    context.fillRect(i * step - 0.25, 0, 0.5, SIDE);
    context.fillRect(0, i * step - 0.25, SIDE, 0.5);
  }
  if (row === null) return;
  context.lineWidth = 1.5;
  context.strokeStyle = css("--mark");
  context.strokeRect(0.75, row * step - 0.75, SIDE - 1.5, step + 1.5);
}

/** @param {Float32Array[]} lists */
export const largestOf = (...lists) =>
  lists.reduce((most, list) => list.reduce((high, value) => Math.max(high, Math.abs(value)), most), 0);
