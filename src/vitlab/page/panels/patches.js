// The input lifts apart into patches: one button each, in a grid; arrows move between them.

import { byId, drawPatch, el, keep, picture, setText } from "../dom.js";
import { tap } from "./maps.js";

const FILTERS = "A CNN has no patches: it slides small filters over all pixels.";

export function createPatches(store) {
  const grid = byId("patch-grid");
  let focused = 0;

  grid.addEventListener("pointerover", (event) => {
    const patch = numberOf(event.target);
    if (event.pointerType === "mouse" && patch !== null) store.set({ hover: patch });
  });
  grid.addEventListener("pointerleave", () => store.set({ hover: null }));
  grid.addEventListener("focusin", (event) => {
    const patch = numberOf(event.target);
    if (patch === null || !event.target.matches(":focus-visible")) return;
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
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -side, ArrowDown: side };
    const to = grid.children[focused + (steps[event.key] ?? Number.NaN)];
    if (!(event.key in steps)) return;
    event.preventDefault();
    to?.focus();
  });
  byId("show-all").addEventListener("click", () => store.set({ hidden: [] }));
  for (const radio of document.querySelectorAll("input[name=tap]"))
    radio.addEventListener("change", () => store.set({ tap: radio.value }));

  return function render({ state, mark, model, reading }) {
    setText(byId("patches-title"), model?.config.arch === "cnn" ? "Squares to hide" : "Patches become tokens");
    setText(byId("patches-say"), say(model));
    byId("show-all").hidden = state.hidden.length === 0;
    if (!model || !reading) return;
    const { squares, config } = model;
    const count = squares.grid ** 2;
    grid.style.gridTemplateColumns = `repeat(${squares.grid}, 1fr)`;
    grid.classList.toggle("lifted", config.arch !== "cnn");
    if (focused >= count) focused = 0;
    const buttons = keep(grid, count, (i) =>
      el(
        "button",
        { type: "button", class: "patch", "data-patch": i },
        el("canvas", {}),
        el("span", { "aria-hidden": "true" }, String(i + 1)),
      ),
    );
    const whole = picture(reading.image, squares.size, squares.size, config.channels);
    for (let i = 0; i < count; i++) {
      const button = buttons[i];
      const hidden = state.hidden.includes(i);
      button.tabIndex = i === focused ? 0 : -1;
      button.classList.toggle("marked", i === mark);
      button.classList.toggle("gone", hidden);
      button.setAttribute("aria-pressed", state.tap === "hide" ? hidden : i === state.query);
      const label = `Patch ${i + 1}, ${whereIs(i, squares)}${hidden ? ", hidden" : ""}`;
      if (button.getAttribute("aria-label") !== label) button.setAttribute("aria-label", label);
      paintPatch(button.firstElementChild, whole, squares, i);
    }
    setText(byId("patch-now"), now(state, mark, model));
  };
}

const numberOf = (target) => {
  const button = target.closest?.("[data-patch]");
  return button ? Number(button.dataset.patch) : null;
};

function paintPatch(canvas, whole, squares, patch) {
  const { side } = squares;
  if (canvas.width !== side) Object.assign(canvas, { width: side, height: side });
  const context = canvas.getContext("2d");
  drawPatch(context, whole, squares, patch, 0, 0, side);
}

const whereIs = (patch, { grid }) => `row ${Math.floor(patch / grid) + 1}, column ${(patch % grid) + 1}`;

function say(model) {
  if (!model) return "";
  const { config, squares } = model;
  const { arch, patch_overlap: overlap, embed_dim: width } = config.model;
  if (arch === "cnn") return `${FILTERS} These ${squares.grid ** 2} squares are only there for you to hide.`;
  const more = overlap ? ` (and sees ${overlap} more on every side)` : "";
  const each = `Each has ${squares.side} × ${squares.side} pixels${more} and becomes one token`;
  const token = `a list of ${width} numbers that also knows its place`;
  return `The input is cut into ${squares.grid ** 2} patches. ${each}: ${token}.`;
}

function now(state, mark, model) {
  if (mark !== null) {
    return `Patch ${mark + 1}: ${whereIs(mark, model.squares)}${state.hidden.includes(mark) ? ", hidden" : ""}.`;
  }
  if (state.hidden.length) return `${state.hidden.length} hidden.`;
  return state.tap === "hide" ? "Click a patch to turn it black." : "Point at a patch: it lights up everywhere.";
}
