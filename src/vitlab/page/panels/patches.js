// The input divides into patches: one button each, in a grid; arrows move between them.

import { byId, byTouch, drawPatch, el, keep, part, picture, setAttribute, setText } from "../dom.js";
import { capital, cell, tied } from "../words.js";
import { tap } from "./maps.js";

/** @import { View } from "../main.js" */
/** @import { Squares } from "../net/model.js" */
/** @import { State, Store } from "../state.js" */
/** @import { Loaded } from "../net/worker.js" */

/** @param {Store} store @param {typeof byId} [find] the elements of the panel, by the ids of the first network's */
export function createPatches(store, find = byId) {
  const grid = find("patch-grid");
  let focused = 0;

  grid.addEventListener("pointerover", (event) => {
    const patch = numberOf(event.target);
    if (event.pointerType === "mouse" && patch !== null) store.set({ hover: patch });
  });
  grid.addEventListener("pointerleave", () => store.set({ hover: null }));
  grid.addEventListener("focusin", ({ target }) => {
    const patch = numberOf(target);
    if (patch === null || !(target instanceof Element && target.matches(":focus-visible"))) return;
    focused = patch;
    store.set({ hover: patch });
  });
  grid.addEventListener("focusout", () => store.set({ hover: null }));
  grid.addEventListener("click", (event) => {
    const patch = numberOf(event.target);
    if (patch !== null) tap(store, patch);
  });
  grid.addEventListener("keydown", (event) => {
    const side = Math.round(Math.sqrt(grid.children.length));
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -side, ArrowDown: side }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const to = grid.children[focused + step];
    if (to instanceof HTMLElement) to.focus();
  });
  find("show-all").addEventListener("click", () => store.set({ hidden: [] }));
  for (const tapped of /** @type {const} */ (["follow", "hide"])) {
    find(`tap-${tapped}`).addEventListener("change", () => store.set({ tap: tapped }));
  }

  /** @param {View} view */
  return function render({ state, mark, model, reading }) {
    const cuts = model?.views.tokens ?? true;
    setText(find("patches-title"), cuts ? "Patches become tokens" : "Squares to hide");
    setText(find("patches-say"), tied(say(model)));
    setText(find("tap-say"), `${byTouch() ? "Tap" : "Click"} a ${cell(model)} to`);
    setText(find("tap-word"), cuts ? "follow it" : "mark it");
    setText(find("show-all"), cuts ? "Show all patches" : "Show all squares");
    for (const tapped of /** @type {const} */ (["follow", "hide"])) {
      find(`tap-${tapped}`, HTMLInputElement).checked = state.tap === tapped;
    }
    find("show-all").hidden = state.hidden.length === 0;
    if (!model || !reading) return;
    const { squares, config } = model;
    const count = squares.grid ** 2;
    grid.style.gridTemplateColumns = `repeat(${squares.grid}, 1fr)`;
    grid.style.setProperty("--sees", `${(-100 * config.model.patch_overlap) / squares.side}%`);
    grid.classList.toggle("lifted", cuts);
    grid.classList.toggle("wide", cuts && config.model.patch_overlap > 0);
    if (focused >= count) focused = 0;
    const buttons = keep(grid, count, (i) =>
      el(
        "button",
        { type: "button", class: "patch", "data-patch": i },
        el("canvas"),
        el("span", { "aria-hidden": "true" }, String(i + 1)),
      ),
    );
    const whole = picture(reading.image, squares.size, squares.size, config.channels);
    buttons.forEach((button, i) => {
      const hidden = state.hidden.includes(i);
      button.tabIndex = i === focused ? 0 : -1;
      button.classList.toggle("marked", i === mark);
      button.classList.toggle("gone", hidden);
      setAttribute(button, "aria-pressed", String(state.tap === "hide" ? hidden : i === state.query));
      setAttribute(
        button,
        "aria-label",
        `${capital(cell(model))} ${i + 1}, ${whereIs(i, squares)}${hidden ? ", hidden" : ""}`,
      );
      paintPatch(part(button, "canvas"), whole, squares, i);
    });
    setText(find("patch-now"), now(state, mark, model));
  };
}

/** @param {EventTarget | null} target */
function numberOf(target) {
  const button = target instanceof Element ? target.closest("button") : null;
  return button ? Number(button.dataset.patch) : null;
}

/**
 * @param {HTMLCanvasElement} canvas @param {HTMLCanvasElement} whole @param {Squares} squares @param {number} patch
 */
function paintPatch(canvas, whole, squares, patch) {
  const { side } = squares;
  if (canvas.width !== side) Object.assign(canvas, { width: side, height: side });
  const context = canvas.getContext("2d");
  if (context) drawPatch(context, whole, squares, patch, 0, 0, side);
}

/** @param {number} patch @param {Squares} squares */
const whereIs = (patch, { grid }) => `row ${Math.floor(patch / grid) + 1}, column ${(patch % grid) + 1}`;

/** @param {Loaded | null} model */
function say(model) {
  if (!model) return "";
  const { squares, views } = model;
  const knobs = model.config.model;
  const { patch_overlap: overlap, embed_dim: width } = knobs;
  const count = squares.grid ** 2;
  if (!views.tokens) {
    return `A CNN has no patches: it slides small filters over all pixels. Use these ${count} squares to hide parts of the picture.`;
  }
  const more = overlap ? ` (and sees ${overlap} more on every side)` : "";
  const each = `Each has ${squares.side} × ${squares.side} pixels${more} and becomes one token`;
  const place = views.mixing || knobs.pos_embed === "none" ? "" : " that also includes its position";
  return `The input is cut into ${count} patches. ${each}: a list of ${width} numbers${place}.`;
}

/** @param {State} state @param {number | null} mark @param {Loaded} model */
function now({ hidden, tap: does }, mark, model) {
  const one = cell(model);
  if (mark !== null) {
    const gone = hidden.includes(mark) ? ", hidden" : "";
    return `${capital(one)} ${mark + 1}: ${whereIs(mark, model.squares)}${gone}.`;
  }
  const several = one === "patch" ? "patches" : "squares";
  if (hidden.length) return `${hidden.length} ${hidden.length === 1 ? one : several} hidden.`;
  const tapped = byTouch() ? "Tap" : "Click";
  if (does === "hide") return `${tapped} a ${one} to turn it black.`;
  return byTouch() ? `Tap a ${one} to follow it everywhere.` : `Point at a ${one} to highlight it everywhere.`;
}
