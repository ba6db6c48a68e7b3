// The key of a colour scale: a bar with ticks, so that a scale that is not even can be read off.

import { cssColour } from "../colour.js";
import { el } from "../dom.js";

/** @import { Colour } from "../colour.js" */

const CELLS = 48;

/**
 * colour(place): the colour at a place from 0 to 1. ticks: places and what to write there. means: what the left end, the
 * middle and the right end mean.
 * @param {(place: number) => Colour} colour @param {[number, string][]} ticks @param {string[]} means
 */
export function scaleKey(colour, ticks, means = []) {
  const bar = el("span", { class: "ramp" });
  for (let i = 0; i < CELLS; i++) {
    const part = el("i");
    part.style.background = cssColour(colour((i + 0.5) / CELLS));
    bar.append(part);
  }
  const below = el("span", { class: "ticks" });
  for (const [place, text] of ticks) {
    const tick = el("b", {}, text);
    tick.style.left = `${100 * place}%`;
    below.append(tick);
  }
  const named = means.length ? [el("span", { class: "means" }, ...means.map((text) => el("span", {}, text)))] : [];
  return el("span", { class: "scale" }, bar, below, ...named);
}
