// A vector as a strip of cells, coloured by sign: next to it, the number that the pointer or the arrow keys have chosen.

import { cssColour, signColour } from "../colour.js";
import { css, el, setAttribute, setText, surface } from "../dom.js";

/** @typedef {ReturnType<typeof createVector>} Vector */

const FEW = 3; // numbers as text
const [LEAST, MOST] = [7, 22]; // pixels of a cell
const KEYS = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1, PageUp: -10, PageDown: 10 };

/**
 * -1.234 -> "−1.23".
 * @param {number} value
 */
export function number(value) {
  const size = Math.abs(value);
  const text = value.toFixed(size < 9.995 ? 2 : size < 99.95 ? 1 : 0);
  return text.replace("-", "−").replace(/^−(0(?:\.0+)?)$/, "$1");
}

/**
 * A number of thousands as people write it.
 * @param {number} count
 */
export const counted = (count) => count.toLocaleString("en");

/** @param {ArrayLike<number>} values */
function ends(values) {
  let [least, most] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (let i = 0; i < values.length; i++) [least, most] = [Math.min(least, values[i]), Math.max(most, values[i])];
  return [least, most];
}

/** One strip with its caption. paint(name, values) shows a vector; `digits` may write its numbers in another way. */
export function createVector() {
  const name = el("strong");
  const text = el("span");
  const canvas = el("canvas", { class: "cells", role: "slider", tabindex: 0, "aria-valuemin": 1 });
  const element = el("div", { class: "vector" }, el("p", { class: "small" }, name, " ", text), canvas);
  /** @type {ArrayLike<number>} */
  let values = [];
  let [write, colour] = [number, signColour];
  let scale = 0; // the number with the darkest colour, if that is not the largest here
  let chosen = -1; // the cell whose number is shown
  let at = 0; // the cell that the keyboard has reached
  let [columns, cell, height] = [1, LEAST, LEAST];

  /** @param {number} index */
  function choose(index) {
    chosen = index;
    draw();
  }

  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left) / cell);
    const index = Math.floor((event.clientY - box.top) / height) * columns + column;
    choose(column >= 0 && column < columns && index < values.length ? index : -1);
  });
  canvas.addEventListener("pointerleave", () => choose(document.activeElement === canvas ? at : -1));
  canvas.addEventListener("focus", () => choose(at));
  canvas.addEventListener("blur", () => choose(-1));
  canvas.addEventListener("keydown", (event) => {
    const { key } = event;
    const step = KEYS[/** @type {keyof typeof KEYS} */ (key)];
    const to = { Home: 0, End: values.length - 1 }[key] ?? (step === undefined ? null : at + step);
    if (to === null) return;
    event.preventDefault();
    at = Math.min(values.length - 1, Math.max(0, to));
    choose(at);
  });

  function layOut() {
    const width = canvas.parentElement?.clientWidth ?? 0;
    const rows = Math.ceil((values.length * LEAST) / Math.max(width, LEAST));
    columns = Math.max(1, Math.ceil(values.length / rows));
    cell = Math.min(MOST, Math.max(1, Math.floor(width / columns)));
    height = Math.max(cell, 12);
    const size = [`${columns * cell}px`, `${Math.ceil(values.length / columns) * height}px`];
    [canvas.style.width, canvas.style.height] = size;
  }

  function draw() {
    if (!canvas.clientWidth) return;
    const context = surface(canvas);
    const [least, most] = ends(values);
    const largest = scale || Math.max(most, -least);
    for (let i = 0; i < values.length; i++) {
      const [x, y] = [(i % columns) * cell, Math.floor(i / columns) * height];
      context.fillStyle = cssColour(colour(values[i], largest));
      context.fillRect(x, y, cell - 1, height - 1);
      if (i !== chosen) continue;
      context.lineWidth = 2;
      context.strokeStyle = css("--mark");
      context.strokeRect(x, y, cell - 1, height - 1);
    }
    const few = Array.from({ length: Math.min(FEW, values.length) }, (_, i) => write(values[i])).join(", ");
    const more = values.length > FEW ? ", …" : "";
    const one = chosen < 0 || chosen >= values.length ? "" : `number ${chosen + 1}: ${write(values[chosen])}`;
    setText(text, one || `${counted(values.length)} numbers from ${write(least)} to ${write(most)}: ${few}${more}`);
    const shown = Math.min(at, values.length - 1);
    setAttribute(canvas, "aria-valuemax", String(values.length));
    setAttribute(canvas, "aria-valuenow", String(shown + 1));
    setAttribute(canvas, "aria-valuetext", `number ${shown + 1}: ${write(values[shown])}`);
  }

  return {
    element,
    /**
     * @param {string} title @param {ArrayLike<number>} numbers @param {(value: number) => string} [digits]
     * @param {typeof signColour} [colours] @param {number} [largest] of all vectors on the same scale
     */
    paint(title, numbers, digits = number, colours = signColour, largest = 0) {
      values = numbers;
      scale = largest;
      [write, colour] = [digits, colours];
      at = Math.min(at, Math.max(0, values.length - 1));
      setText(name, title);
      setAttribute(canvas, "aria-label", `Numbers of ${title}`);
      layOut();
      draw();
    },
  };
}
