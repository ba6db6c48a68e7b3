// Rotation, shift and noise: a slider each, under the curve of the answer's probability over the slider's range.

import { byId, css, el, setText, surface } from "../dom.js";
import { RANGES, disturbed } from "../state.js";

const HEIGHT = 46;

export function createDisturb(store) {
  const parts = {};
  for (const [name, range] of Object.entries(RANGES)) {
    const input = el("input", {
      type: "range",
      id: `range-${name}`,
      min: range.least,
      max: range.most,
      step: range.step,
      value: 0,
      "aria-describedby": `curve-${name}`,
    });
    input.addEventListener("input", () => store.set({ [name]: Number(input.value) }));
    const output = el("output", { for: input.id });
    const canvas = el("canvas", {
      class: "curve",
      id: `curve-${name}`,
      role: "img",
      "aria-label": "curve not computed yet",
    });
    parts[name] = { input, output, canvas };
    byId("disturbances").append(
      el(
        "div",
        { class: "disturbance" },
        el("div", { class: "slider" }, el("label", { for: input.id }, range.name), output),
        canvas,
        input,
      ),
    );
  }
  byId("calm").addEventListener("click", () => store.set({ rotate: 0, shift: 0, noise: 0 }));

  return function render({ state, curves, curves2, model, reading, empty }) {
    byId("calm").hidden = !disturbed(state);
    for (const [name, range] of Object.entries(RANGES)) {
      const { input, output, canvas } = parts[name];
      input.value = state[name];
      setText(output, `${state[name]}${range.unit}`);
      if (!canvas.clientWidth) continue;
      const context = surface(canvas, canvas.clientWidth, HEIGHT);
      paintFrame(context, canvas.clientWidth, state[name], range);
      if (empty || !reading) continue;
      if (curves2[name]) paintCurve(context, canvas.clientWidth, curves2[name], range, css("--second"), [3, 3]);
      if (curves[name]) {
        paintCurve(context, canvas.clientWidth, curves[name], range, css("--accent"), []);
        describe(canvas, curves[name], range, model.config.classes);
      }
    }
  };
}

const INSET = 11; // half of the slider's knob: the curve's ends stand above the knob's
const across = (width, value, { least, most }) => INSET + ((value - least) / (most - least)) * (width - 2 * INSET);
const height = (p) => HEIGHT - 4 - p * (HEIGHT - 8);

function paintFrame(context, width, value, range) {
  context.lineWidth = 1;
  context.strokeStyle = css("--line");
  for (const p of [0, 1]) line(context, INSET, height(p), width - INSET, height(p));
  context.strokeStyle = css("--mark");
  line(context, across(width, value, range), 2, across(width, value, range), HEIGHT);
}

function line(context, ...[x, y, toX, toY]) {
  context.beginPath();
  context.moveTo(x, y);
  context.lineTo(toX, toY);
  context.stroke();
}

function paintCurve(context, width, { strengths, probabilities }, range, colour, dash) {
  const trace = () =>
    strengths.forEach((s, i) => context[i ? "lineTo" : "moveTo"](across(width, s, range), height(probabilities[i])));
  context.strokeStyle = context.fillStyle = colour;
  context.lineWidth = 2;
  context.lineJoin = "round";
  context.setLineDash(dash);
  context.beginPath();
  trace();
  context.stroke();
  context.setLineDash([]);
  if (dash.length) return;
  context.lineTo(across(width, strengths.at(-1), range), height(0));
  context.lineTo(across(width, strengths[0], range), height(0));
  context.globalAlpha = 0.12;
  context.fill();
  context.globalAlpha = 1;
}

function describe(canvas, { label, strengths, probabilities }, { unit }, classes) {
  const answer = classes[label];
  const points = strengths.map((s, i) => [s, probabilities[i]]).filter(([, p]) => p >= 0.5);
  const text = points.length
    ? `The answer ${answer} keeps at least 50 % from ${points[0][0]}${unit} to ${points.at(-1)[0]}${unit}`
    : `The answer ${answer} stays below 50 % throughout`;
  if (canvas.getAttribute("aria-label") !== text) canvas.setAttribute("aria-label", text);
}
