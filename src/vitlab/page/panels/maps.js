// A map: one coloured square for each patch, the digit laid over it, the marked patch outlined, hidden ones crossed.

import { surface, veil } from "../dom.js";
import { cssColour } from "../colour.js";

// values: one for each patch; colour(value) -> [r, g, b].
export function paintMap(canvas, values, colour, { squares, image, channels, mark, hidden, strength = 0.55, side }) {
  const width = side ?? canvas.clientWidth;
  const context = surface(canvas, width, width);
  const unit = width / squares.size;
  context.fillStyle = "#0b0b12";
  context.fillRect(0, 0, width, width);
  values.forEach((value, patch) => {
    const [x, y, w] = place(squares, patch, unit);
    context.fillStyle = cssColour(colour(value));
    context.fillRect(x, y, w + 0.4, w + 0.4);
  });
  context.imageSmoothingEnabled = true;
  context.drawImage(veil(image, squares.size, channels, strength), 0, 0, width, width);
  hidden.forEach((patch) => cross(context, place(squares, patch, unit)));
  if (mark !== null) outline(context, place(squares, mark, unit));
}

function place({ grid, side, margin }, patch, unit) {
  return [(margin + side * (patch % grid)) * unit, (margin + side * Math.floor(patch / grid)) * unit, side * unit];
}

// The patch at a pointer, or null.
export function patchAt(canvas, event, { grid, side, margin, size }) {
  const box = canvas.getBoundingClientRect();
  const column = Math.floor((((event.clientX - box.left) / box.width) * size - margin) / side);
  const row = Math.floor((((event.clientY - box.top) / box.height) * size - margin) / side);
  return row >= 0 && row < grid && column >= 0 && column < grid ? row * grid + column : null;
}

// Pointing at a map marks the patch everywhere; a click follows or hides it.
export function listenToMap(canvas, store, squares) {
  const at = (event) => (squares() ? patchAt(canvas, event, squares()) : null);
  canvas.addEventListener("pointermove", (event) => event.pointerType === "mouse" && store.set({ hover: at(event) }));
  canvas.addEventListener("pointerleave", () => store.set({ hover: null }));
  canvas.addEventListener("click", (event) => {
    const patch = at(event);
    if (patch !== null) tap(store, patch);
  });
}

// What a click on a patch does, as the reader has chosen.
export function tap(store, patch) {
  const { tap: does, query, hidden } = store.get();
  if (does === "follow") store.set({ query: query === patch ? null : patch });
  else store.set({ hidden: hidden.includes(patch) ? hidden.filter((p) => p !== patch) : [...hidden, patch] });
}

function outline(context, [x, y, w]) {
  context.lineWidth = 3.5;
  context.strokeStyle = "#14060e";
  context.strokeRect(x + 0.5, y + 0.5, w - 1, w - 1);
  context.lineWidth = 1.8;
  context.strokeStyle = "#ff6fb5";
  context.strokeRect(x + 0.5, y + 0.5, w - 1, w - 1);
}

function cross(context, [x, y, w]) {
  context.fillStyle = "#16161d";
  context.fillRect(x, y, w, w);
  context.lineWidth = 1;
  context.strokeStyle = "#8a8a99";
  context.beginPath();
  context.moveTo(x + 0.25 * w, y + 0.25 * w);
  context.lineTo(x + 0.75 * w, y + 0.75 * w);
  context.moveTo(x + 0.75 * w, y + 0.25 * w);
  context.lineTo(x + 0.25 * w, y + 0.75 * w);
  context.stroke();
}
