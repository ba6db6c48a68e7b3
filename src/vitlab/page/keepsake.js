// "Save as picture": the drawing, the attention maps and the answer in one PNG, with the network's name.

import { byId, css, el } from "./dom.js";
import { saveFile } from "./downloads.js";
import { argmax, percent } from "./net/numbers.js";
import { strongest } from "./panels/lens.js";

/** @import { View } from "./main.js" */

const [WIDTH, HEIGHT, EDGE, SIDE] = [1200, 630, 40, 400]; // pixels; what links show has this shape
const TOP = 104;
const BARS = { left: 880, width: 280, row: 34 };

/** Returns render(view), which remembers what to save. */
export function createKeepsake() {
  /** @type {View | null} */
  let last = null;
  byId("save-picture").addEventListener("click", () => {
    if (last === null) return;
    const name = `vitlab-${answerOf(last).replace(/[^\w]+/g, "-")}.png`;
    paint(last).toBlob((blob) => blob && saveFile(blob, name), "image/png");
  });
  /** @param {View} view */
  return (view) => {
    last = view;
    byId("save-picture", HTMLButtonElement).disabled = view.reading === null;
  };
}

/** @param {View} view */
function answerOf({ model, reading, empty }) {
  if (!model || !reading || empty) return "nothing to read";
  return model.config.classes[argmax(reading.probabilities)];
}

/** @param {View} view */
function paint(view) {
  const canvas = el("canvas", { width: WIDTH, height: HEIGHT });
  const context = canvas.getContext("2d");
  if (context === null) throw new Error("this browser cannot draw on a canvas");
  context.fillStyle = css("--paper");
  context.fillRect(0, 0, WIDTH, HEIGHT);
  const [answer, sure] = ["answer", "sure"].map((id) => byId(id).textContent);
  const said = answer === "not sure" ? `is not sure: ${sure}` : `reads ${answerOf(view)}, ${sure}`;
  write(context, `A network ${said}`, EDGE, 70, `600 40px ${css("--serif")}`);
  context.drawImage(byId("slate", HTMLCanvasElement), EDGE, TOP, SIDE, SIDE);
  paintMaps(context, view);
  paintBars(context, view);
  const { model } = view;
  const top1 = model?.config.test_top1;
  const right =
    typeof top1 === "number" ? `, ${percent(top1, 2)} correct on ${model?.config.data ?? "test images"}` : "";
  const about = `${model?.config.name ?? ""}${right}. Computed in a browser by vitlab.`;
  write(context, about, EDGE, HEIGHT - EDGE, `22px ${css("--sans")}`, "--soft");
  return canvas;
}

/**
 * The attention maps as they are on the page: a row for each block. A network without them shows its input.
 * @param {CanvasRenderingContext2D} context @param {View} view
 */
function paintMaps(context, { model, reading }) {
  const layers = reading?.attention ?? [];
  const maps = /** @type {NodeListOf<HTMLCanvasElement>} */ (document.querySelectorAll("#maps canvas"));
  const left = EDGE + SIDE + EDGE;
  const columns = layers[0]?.heads ?? 0;
  const size = Math.min(360 / Math.max(1, columns), SIDE / Math.max(1, layers.length));
  for (let i = 0; i < layers.length * columns && i < maps.length; i++) {
    const [x, y] = [left + (i % columns) * size, TOP + Math.floor(i / columns) * size];
    context.drawImage(maps[i], x, y, size - 4, size - 4);
  }
  if (!layers.length && model) context.drawImage(byId("needed", HTMLCanvasElement), left, TOP, 360, 360);
  const what = layers.length ? "Attention: block by block, head by head" : "What it needed";
  write(context, what, left, TOP + SIDE + 28, `20px ${css("--sans")}`, "--soft");
}

/** @param {CanvasRenderingContext2D} context @param {View} view */
function paintBars(context, { model, reading, empty }) {
  if (!model || !reading || empty) return;
  const { left, width, row } = BARS;
  const best = argmax(reading.probabilities);
  strongest(reading.probabilities, model.config.classes.length).forEach((index, i) => {
    const y = TOP + 20 + i * row;
    const p = reading.probabilities[index];
    const font = `${index === best ? 600 : 400} 20px ${css("--sans")}`;
    write(context, model.config.classes[index].slice(0, 9), left, y, font);
    context.fillStyle = css("--line");
    context.fillRect(left + 90, y - 14, width - 170, 14);
    context.fillStyle = css(index === best ? "--accent" : "--edge");
    context.fillRect(left + 90, y - 14, (width - 170) * p, 14);
    write(context, percent(p), left + width - 70, y, font);
  });
}

/**
 * @param {CanvasRenderingContext2D} context @param {string} text @param {number} x @param {number} y
 * @param {string} font @param {string} colour
 */
function write(context, text, x, y, font, colour = "--ink") {
  context.font = font;
  context.fillStyle = css(colour);
  context.fillText(text, x, y, WIDTH - x - EDGE / 2);
}
