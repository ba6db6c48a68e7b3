// Rotation, shift and noise: a slider each, under the curve of the answer's probability over the slider's range.

import { byId, css, el, setAttribute, setText, surface } from "../dom.js";
import { disturbed, KINDS, RANGES } from "../state.js";

/** @import { View } from "../main.js" */
/** @import { Range, Store } from "../state.js" */
/** @import { Curve, Kind, Loaded } from "../net/worker.js" */

const HEIGHT = 46;
const INSET = 11; // half of the slider's knob: the curve's ends stand above the knob's

/** @param {Store} store */
export function createDisturb(store) {
  const other = byId("curve-other");
  const parts = KINDS.map((kind) => ({ kind, range: RANGES[kind], ...createSlider(store, kind, RANGES[kind]) }));
  byId("calm").addEventListener("click", () => store.set({ rotate: 0, shift: 0, noise: 0 }));

  /** @param {View} view */
  return function render({ state, curves, curves2, model, model2, reading, empty }) {
    const second = KINDS.map((kind) => curves2[kind]).find(Boolean);
    setText(other, model2 && second && !empty ? dashed(model2, second) : "");
    byId("calm").hidden = !disturbed(state);
    for (const { kind, range, input, output, canvas } of parts) {
      input.value = String(state[kind]);
      setText(output, `${state[kind]}${range.unit}`);
      const width = canvas.clientWidth;
      if (!width) continue;
      const context = surface(canvas, width, HEIGHT);
      paintFrame(context, width, state[kind], range);
      if (empty || !reading || !model) continue;
      const [curve, curve2] = [curves[kind], curves2[kind]];
      if (curve2) paintCurve(context, width, curve2, range, css("--second"), [3, 3]);
      if (curve) {
        paintCurve(context, width, curve, range, css("--accent"), []);
        setAttribute(canvas, "aria-label", describe(curve, range, model.config.classes));
      }
    }
  };
}

/**
 * Whose the dashed curve is: it is about the second network's own answer.
 * @param {Loaded} model @param {Curve} curve
 */
function dashed({ config }, { label }) {
  return `Dashed: how probable ${config.name} finds its own answer, ${config.classes[label]}.`;
}

/** @param {Store} store @param {Kind} kind @param {Range} range */
function createSlider(store, kind, range) {
  const { least: min, most: max, step } = range;
  const id = `range-${kind}`;
  const input = el("input", { type: "range", id, min, max, step, value: 0, "aria-describedby": `curve-${kind}` });
  input.addEventListener("input", () => store.set({ [kind]: Number(input.value) }));
  const output = el("output", { for: id });
  const label = "curve not computed yet";
  const canvas = el("canvas", { class: "curve", id: `curve-${kind}`, role: "img", "aria-label": label });
  const slider = el("div", { class: "slider" }, el("label", { for: id }, range.name), output);
  byId("disturbances").append(el("div", { class: "disturbance" }, slider, canvas, input));
  return { input, output, canvas };
}

/** @type {(width: number, value: number, range: Range) => number} */
const across = (width, value, { least, most }) => INSET + ((value - least) / (most - least)) * (width - 2 * INSET);
/** @type {(p: number) => number} */
const height = (p) => HEIGHT - 4 - p * (HEIGHT - 8);

/** @param {CanvasRenderingContext2D} context @param {number} width @param {number} value @param {Range} range */
function paintFrame(context, width, value, range) {
  context.lineWidth = 1;
  context.strokeStyle = css("--line");
  for (const p of [0, 1]) line(context, INSET, height(p), width - INSET, height(p));
  context.strokeStyle = css("--mark");
  line(context, across(width, value, range), 2, across(width, value, range), HEIGHT);
}

/** @param {CanvasRenderingContext2D} context @param {number} x @param {number} y @param {number} toX @param {number} toY */
function line(context, x, y, toX, toY) {
  context.beginPath();
  context.moveTo(x, y);
  context.lineTo(toX, toY);
  context.stroke();
}

/**
 * @param {CanvasRenderingContext2D} context @param {number} width @param {Curve} curve @param {Range} range
 * @param {string} colour @param {number[]} dash
 */
function paintCurve(context, width, { strengths, probabilities }, range, colour, dash) {
  context.strokeStyle = context.fillStyle = colour;
  context.lineWidth = 2;
  context.lineJoin = "round";
  context.setLineDash(dash);
  context.beginPath();
  strengths.forEach((s, i) => {
    context[i ? "lineTo" : "moveTo"](across(width, s, range), height(probabilities[i]));
  });
  context.stroke();
  context.setLineDash([]);
  if (dash.length) return;
  context.lineTo(across(width, strengths[strengths.length - 1], range), height(0));
  context.lineTo(across(width, strengths[0], range), height(0));
  context.globalAlpha = 0.12;
  context.fill();
  context.globalAlpha = 1;
}

/** @param {Curve} curve @param {Range} range @param {string[]} classes */
function describe({ label, strengths, probabilities }, { unit }, classes) {
  const likely = strengths.filter((_, i) => probabilities[i] >= 0.5);
  const answer = `The answer ${classes[label]}`;
  if (!likely.length) return `${answer} is below 50 % everywhere`;
  return `${answer} is at 50 % or more from ${likely[0]}${unit} to ${likely[likely.length - 1]}${unit}`;
}
