// What the network receives: from the drawing to its input in a few pictures.

import { byId, childrenOf, el, keep, part, picture, setText, surface } from "../dom.js";
import { words } from "../words.js";

/** @import { Box } from "../net/paper.js" */
/** @import { View } from "../main.js" */
/** @import { Shown } from "../reader.js" */
/** @import { State, Store } from "../state.js" */
/** @import { Loaded } from "../net/worker.js" */
/** @typedef {{ name: string, paint: (context: CanvasRenderingContext2D) => void }} Step */

const THUMB = 88;
const CENTRE = 14.5 / 28; // where the centre of mass goes

const CENTRED =
  "were all the same size and centred. So yours is cut out, scaled to 20 pixels, and moved until its centre of mass is in " +
  "the middle.";

/** @param {Store} store */
export function createStrip(store) {
  const strip = byId("strip");
  const box = byId("center", HTMLInputElement);
  box.addEventListener("change", () => store.set({ center: box.checked }));

  /** @param {View} view */
  return function render({ state, model, reading }) {
    box.checked = state.center && model?.config.drawing !== null;
    byId("center-switch").hidden = model?.config.drawing === null; // there is nothing to centre
    const reason = reading?.steps.reason;
    setText(byId("strip-say"), reason ? `Not sure: ${reason}.` : say(state, model));
    if (!model || !reading) return;
    const steps = stepsOf(reading, model, state);
    const items = keep(strip, steps.length, () =>
      el("li", {}, el("canvas", { class: "thumb", "aria-hidden": "true" }), el("span")),
    );
    steps.forEach(({ name, paint }, i) => {
      setText(childrenOf(items[i])[1], name);
      const context = surface(part(items[i], "canvas"), THUMB, THUMB);
      context.fillStyle = "#000";
      context.fillRect(0, 0, THUMB, THUMB);
      paint(context);
    });
  };
}

/** @param {State} state @param {Loaded | null} model */
function say(state, model) {
  if (!model) return "";
  const { drawing, preprocess, channels } = model.config;
  const pixels = `${preprocess.image_size} × ${preprocess.image_size} pixels`;
  const colour = channels === 3 ? "in colour" : "in grey";
  if (drawing === null) return `This network takes the whole picture ${colour}, resized to ${pixels}.`;
  const { size } = model.squares;
  const crop = size < preprocess.image_size ? ` Of these ${pixels} it keeps the middle ${size} × ${size}.` : "";
  const { thing } = words(model.config);
  if (state.center) return `The ${thing}s it was trained on ${CENTRED}${crop}`;
  const suffers = `Draw a small ${thing === "digit" ? "digit" : "one"} in a corner and see how the answer suffers.`;
  return `Centring is off: the whole area is resized to ${pixels}. ${suffers}${crop}`;
}

/**
 * @param {Shown} reading @param {Loaded} model @param {State} state
 * @returns {Step[]}
 */
function stepsOf(reading, model, state) {
  const { steps, image, source } = reading;
  const { size } = model.squares;
  const { channels, drawing } = model.config;
  const { box, scaled, side } = steps;
  const original = picture(source.pixels, source.width, source.height, source.channels, 1);
  const whole = { name: drawing === null ? "picture" : "drawing", paint: painter(original) };
  const placed = painter(picture(steps.placed, side, side, channels, 1));
  const input = { name: "input", paint: painter(picture(image, size, size, channels)) };
  if (!state.center || drawing === null || !box || !scaled) {
    return [whole, { name: `${side} pixels`, paint: placed }, input];
  }
  const small = picture(scaled.pixels, scaled.width, scaled.height, 1, 1);
  return [
    whole,
    { name: "its box", paint: (context) => outline(context, box, fit(context, original)) },
    { name: "20 pixels", paint: painter(small, THUMB / side) },
    {
      name: "centred",
      paint(context) {
        placed(context);
        cross(context);
      },
    },
    input,
  ];
}

/**
 * @param {HTMLCanvasElement} image @param {number} [scale]
 * @returns {Step["paint"]}
 */
const painter = (image, scale) => (context) => {
  fit(context, image, scale);
};

/**
 * Draws a picture in the middle of the thumbnail, by default with its longer side along the whole of it; where it is.
 * @param {CanvasRenderingContext2D} context @param {HTMLCanvasElement} image
 */
function fit(context, image, scale = THUMB / Math.max(image.width, image.height)) {
  const [x, y] = [(THUMB - image.width * scale) / 2, (THUMB - image.height * scale) / 2];
  context.imageSmoothingEnabled = scale < 2;
  context.drawImage(image, x, y, image.width * scale, image.height * scale);
  return { x, y, scale };
}

/**
 * @param {CanvasRenderingContext2D} context @param {Box} box @param {{ x: number, y: number, scale: number }} fitted
 */
function outline(context, [left, top, right, bottom], { x, y, scale }) {
  context.strokeStyle = "#ff6fb5";
  context.lineWidth = 1.5;
  context.strokeRect(x + left * scale, y + top * scale, (right - left) * scale, (bottom - top) * scale);
}

/** @param {CanvasRenderingContext2D} context */
function cross(context) {
  const middle = THUMB * CENTRE;
  context.strokeStyle = "#ff6fb5";
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(middle, 0);
  context.lineTo(middle, THUMB);
  context.moveTo(0, middle);
  context.lineTo(THUMB, middle);
  context.stroke();
}
