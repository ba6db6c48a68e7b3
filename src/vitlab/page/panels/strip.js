// What the network receives: from the drawing to its input in a few pictures.

import { byId, el, keep, picture, setText, surface } from "../dom.js";

const THUMB = 88;
const CENTRE = 14.5 / 28; // where the centre of mass goes

const CENTRED =
  "The digits it learned from had one size and lay in the middle. So yours is cut out, scaled to 20 pixels, " +
  "and moved until its centre of mass is in the middle.";
const SUFFERS = "Draw a small digit in a corner and see how the answer suffers.";

export function createStrip(store) {
  const strip = byId("strip");
  const box = byId("center");
  box.addEventListener("change", () => store.set({ center: box.checked }));

  return function render({ state, model, reading }) {
    box.checked = state.center && model?.config.drawing !== null;
    byId("center-switch").hidden = model?.config.drawing === null; // it has nothing to centre
    setText(byId("strip-say"), say(state, model));
    if (!reading) return;
    const steps = stepsOf(reading, model, state);
    const items = keep(strip, steps.length, () =>
      el("li", {}, el("canvas", { class: "thumb", "aria-hidden": "true" }), el("span")),
    );
    steps.forEach(({ name, paint }, i) => {
      const [canvas, words] = items[i].children;
      setText(words, name);
      const context = surface(canvas, THUMB, THUMB);
      context.fillStyle = "#000";
      context.fillRect(0, 0, THUMB, THUMB);
      paint(context);
    });
  };
}

function say(state, model) {
  if (!model) return "";
  const { drawing, preprocess, channels } = model.config;
  const pixels = `${preprocess.image_size} × ${preprocess.image_size} pixels`;
  const colour = channels === 3 ? "in colour" : "in grey";
  if (drawing === null) return `This network takes the whole picture ${colour}, resized to ${pixels}.`;
  const { size } = model.squares;
  const crop = size < preprocess.image_size ? ` Of these ${pixels} it keeps the middle ${size} × ${size}.` : "";
  if (!state.center) return `Centring is off: the whole area is resized to ${pixels}. ${SUFFERS}${crop}`;
  return `${CENTRED}${crop}`;
}

function stepsOf(reading, model, state) {
  const { steps, image, source } = reading;
  const { size } = model.squares;
  const channels = model.config.channels;
  const drawn = (context) =>
    fit(context, picture(source.pixels, source.width, source.height, source.channels, 1), source.width, source.height);
  const input = {
    name: "input",
    paint: (context) => blocks(context, picture(image, size, size, channels), size, size, THUMB),
  };
  const side = Math.round(Math.sqrt(steps.placed.length / channels));
  const placed = (context) => blocks(context, picture(steps.placed, side, side, channels, 1), side, side, THUMB);
  if (!state.center || model.config.drawing === null || !steps.box) {
    const name = model.config.drawing === null ? "picture" : "drawing";
    return [{ name, paint: drawn }, { name: `${side} pixels`, paint: placed }, input];
  }
  return [
    { name: "drawing", paint: drawn },
    { name: "its box", paint: (context) => (drawn(context), outline(context, steps.box, source)) },
    { name: "20 pixels", paint: (context) => scaled(context, steps.scaled, side) },
    { name: "centred", paint: (context) => (placed(context), cross(context)) },
    input,
  ];
}

// The whole of a picture, its longer side along the thumb.
function fit(context, image, width, height) {
  const scale = THUMB / Math.max(width, height);
  context.imageSmoothingEnabled = scale < 3;
  context.drawImage(image, (THUMB - width * scale) / 2, (THUMB - height * scale) / 2, width * scale, height * scale);
}

// Pixels as squares.
function blocks(context, image, width, height, w, x = 0, y = 0) {
  context.imageSmoothingEnabled = false;
  context.drawImage(image, x, y, w, (w * height) / width);
}

function outline(context, [left, top, right, bottom], { width, height }) {
  const scale = THUMB / Math.max(width, height);
  const [x, y] = [(THUMB - width * scale) / 2, (THUMB - height * scale) / 2];
  context.strokeStyle = "#ff6fb5";
  context.lineWidth = 1.5;
  context.strokeRect(x + left * scale, y + top * scale, (right - left) * scale, (bottom - top) * scale);
}

function scaled(context, { width, height, pixels }, side) {
  const unit = THUMB / side;
  blocks(
    context,
    picture(pixels, width, height, 1, 1),
    width,
    height,
    width * unit,
    (THUMB - width * unit) / 2,
    (THUMB - height * unit) / 2,
  );
}

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
