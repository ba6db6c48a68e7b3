// One patch opened: from its pixels to its token after a block, every number and the formula that makes it.

import { attentionColour } from "../colour.js";
import { byId, childrenOf, el, keep, setText } from "../dom.js";
import { percent } from "../net/numbers.js";
import { largestOf } from "./figures.js";
import { paintMap } from "./maps.js";
import { STEPS } from "./steps.js";
import { createVector, number } from "./vector.js";

/** @import { View } from "../main.js" */
/** @import { Store } from "../state.js" */
/** @import { Loaded } from "../net/worker.js" */
/** @import { Opened } from "../net/token.js" */
/** @import { Setting, Step } from "./steps.js" */
/** @import { Vector } from "./vector.js" */

const MOST_NUMBERS = 81; // in a patch whose pixels are shown as a square of numbers
const MAP = 168; // pixels
const KEY =
  "Green is above 0, violet below; the darkest cell of each row is the number furthest from 0. In part 2, all rows share " +
  "one scale.";
const SHARES = " Shares have the colours of the attention maps.";
const TOP = 5; // tokens in the list of what is taken most

/** @param {Store} store */
export function createInside(store) {
  const selects = /** @type {const} */ (["patch", "block", "head"]).map((name) =>
    byId(`inside-${name}`, HTMLSelectElement),
  );
  const [patches, blocks, heads] = selects;
  patches.addEventListener("change", () => store.set({ query: patches.value ? Number(patches.value) : null }));
  blocks.addEventListener("change", () => store.set({ block: Number(blocks.value) }));
  heads.addEventListener("change", () => store.set({ head: Number(heads.value) }));
  byId("open-patch").addEventListener("click", () => {
    byId("inside").scrollIntoView();
    byId("inside-title").focus({ preventScroll: true });
  });
  /** @type {() => void} */
  let paintAgain = () => {};
  const boxes = STEPS.map((_, i) => stepBox(i < 2, () => paintAgain()));
  byId("inside-steps").append(...boxes.map(({ box }) => box));
  byId("inside-key").append(el("span", {}, KEY, el("span", { class: "shares" }, SHARES)));

  /** @param {View} view */
  return function render(view) {
    const { state, model, reading } = view;
    const tokens = Boolean(model?.views.tokens);
    const { query, block, head } = state;
    byId("open-patch").hidden = query === null || !tokens;
    byId("inside-places").hidden = !tokens;
    setText(byId("inside-say"), say(model, query, state.cuts, block));
    const opened = reading?.opened ?? null;
    byId("inside-steps").hidden = byId("inside-key").hidden = !opened;
    if (!model || !tokens) return;
    fillSelects(model);
    const { attention } = model.views;
    heads.parentElement?.toggleAttribute("hidden", !attention || model.config.model.num_heads === 1);
    patches.value = query === null ? "" : String(query);
    blocks.value = String(block);
    heads.value = String(head);
    if (!opened || !reading?.place) return;
    const setting = { model, ...reading.place };
    paintAgain = () => {
      for (const [i, one] of boxes.entries()) paintStep(one, i, STEPS[i](opened, setting), opened, setting, view);
    };
    paintAgain();
  };

  /** @param {Loaded} model */
  function fillSelects({ squares, config }) {
    const { depth, num_heads: count } = config.model;
    const names = Array.from({ length: squares.grid ** 2 }, (_, i) => `${i + 1} (${place(i, squares.grid)})`);
    fill(patches, [["", "choose"], ...names.map((name, i) => [String(i), name])]);
    fill(
      blocks,
      Array.from({ length: depth }, (_, i) => [String(i), String(i + 1)]),
    );
    fill(
      heads,
      Array.from({ length: count }, (_, i) => [String(i), String(i + 1)]),
    );
  }
}

/** @type {(patch: number, grid: number) => string} */
const place = (patch, grid) => `row ${Math.floor(patch / grid) + 1}, column ${(patch % grid) + 1}`;

/** @param {HTMLSelectElement} select @param {string[][]} entries */
function fill(select, entries) {
  const same =
    select.options.length === entries.length && entries.every(([, name], i) => select.options[i].text === name);
  if (!same) select.replaceChildren(...entries.map(([value, name]) => el("option", { value }, name)));
}

/** @param {Loaded | null} model @param {number | null} query @param {string[]} cuts @param {number} block */
function say(model, query, cuts, block) {
  if (!model) return "";
  if (!model.views.tokens) return "A CNN has no patches that become tokens, so there is none to open.";
  if (query === null) return "Click a patch above, or choose one here, and follow its numbers through the network.";
  if (cuts.includes(`b${block + 1}`))
    return `Block ${block + 1} is switched off: the token passes through it unchanged.`;
  return "Every number is the network's own. Point at a cell, or move along a row with the arrow keys, to read it.";
}

/**
 * A step that opens and closes; what is closed is not painted.
 * @param {boolean} open @param {() => void} opened
 */
function stepBox(open, opened) {
  const [title, gist] = [el("b", { class: "title" }), el("span", { class: "gist" })];
  const [formula, words] = [el("p", { class: "formula" }), el("p", { class: "say" })];
  const [extra, rows] = [el("div", { class: "extra" }), el("div", { class: "vectors" })];
  const box = el("details", { class: "opened-step" }, el("summary", {}, title, " ", gist), formula, words, extra, rows);
  box.open = open;
  box.addEventListener("toggle", opened);
  /** @type {Vector[]} */
  const vectors = [];
  return { box, title, gist, formula, words, extra, rows, vectors };
}

/**
 * @param {ReturnType<typeof stepBox>} one @param {number} index @param {Step | null} step @param {Opened} opened
 * @param {Setting} setting @param {View} view
 */
function paintStep(one, index, step, opened, setting, view) {
  one.box.hidden = step === null;
  if (step === null) return;
  setText(one.title, step.title);
  const result = step.vectors.at(-1)?.[1] ?? [];
  setText(
    one.gist,
    `[${Array.from(result)
      .slice(0, 3)
      .map((value) => (step.digits ?? number)(value))
      .join(", ")}, …]`,
  );
  if (!one.box.open) return;
  writeFormula(one.formula, step.formula);
  setText(one.words, step.say);
  while (one.vectors.length < step.vectors.length) {
    const vector = createVector();
    one.vectors.push(vector);
    one.rows.append(vector.element);
  }
  const together = step.together ? largestOf(...step.vectors.map(([, numbers]) => numbers)) : 0;
  one.vectors.forEach((vector, i) => {
    vector.element.hidden = i >= step.vectors.length;
    if (i < step.vectors.length) vector.paint(...step.vectors[i], step.digits, step.colour, together);
  });
  if (index === 0) one.rows.hidden = paintPixels(one.extra, opened, setting.model);
  else if (step.shows === "row") paintRow(one.extra, opened, setting, view);
}

/**
 * Formulas are separated by wide gaps, where a line may end; "W_q" is W with a small q.
 * @param {HTMLElement} line @param {string} formulas
 */
function writeFormula(line, formulas) {
  if (line.dataset.formula === formulas) return;
  line.dataset.formula = formulas;
  const parts = formulas.split("      ").map((formula) => {
    const pieces = formula.split(/_(\w)/).map((piece, i) => (i % 2 ? el("sub", {}, piece) : piece));
    return el("span", {}, ...pieces);
  });
  line.replaceChildren(...parts);
}

/**
 * The pixels as a square of numbers, if there are few and they have one channel; whether they are.
 * @param {HTMLElement} box @param {Opened} opened @param {Loaded} model
 */
function paintPixels(box, { pixels, across }, { config }) {
  const few = config.channels === 1 && pixels.length <= MOST_NUMBERS;
  const grid = keep(box, few ? 1 : 0, () => el("div", { class: "pixels" }))[0];
  if (!grid) return false;
  grid.style.gridTemplateColumns = `repeat(${across}, minmax(0, 1fr))`;
  const { patch_overlap: overlap } = config.model;
  grid.classList.toggle("wide", overlap > 0);
  grid.style.setProperty(
    "--core",
    `${overlap + 1} / ${overlap + 1} / ${across - overlap + 1} / ${across - overlap + 1}`,
  );
  const { mean, std } = config.preprocess;
  keep(grid, pixels.length, () => el("i", { class: "pixel" })).forEach((cell, i) => {
    const grey = Math.round(255 * Math.min(1, Math.max(0, pixels[i] * std[0] + mean[0])));
    cell.style.background = `rgb(${grey} ${grey} ${grey})`;
    cell.classList.toggle("light", grey > 117); // from there on, black letters can be read better
    setText(cell, number(pixels[i]));
  });
  return true;
}

/**
 * What the token takes, as a map and as a list.
 * @param {HTMLElement} box @param {Opened} opened @param {Setting} setting @param {View} view
 */
function paintRow(box, { attention }, { model, patch }, { reading, state }) {
  if (!attention || !reading) return;
  const { squares, config } = model;
  const count = squares.grid ** 2;
  const first = attention.weights.length - count;
  if (!box.children.length) {
    const map = el("canvas", { class: "map", role: "img", "aria-label": "What it takes from each patch" });
    box.append(map, el("ol", { class: "taken" }));
  }
  const [map, list] = childrenOf(box);
  map.style.width = map.style.height = `${MAP}px`;
  const shares = attention.weights.subarray(first);
  const painting = { squares, image: reading.image, channels: config.channels, mark: patch, hidden: state.hidden };
  if (map instanceof HTMLCanvasElement) {
    paintMap(map, shares, (share) => attentionColour(share, count), { ...painting, side: MAP });
  }
  const order = Array.from(attention.weights, (_, i) => i).sort((a, b) => attention.weights[b] - attention.weights[a]);
  const top = order.slice(0, TOP);
  keep(list, top.length, () => el("li")).forEach((item, i) => {
    const token = top[i];
    const name = token < first ? "class token" : `patch ${token - first + 1}`;
    setText(item, `${name}: ${number(attention.scores[token])} → ${percent(attention.weights[token])}`);
  });
}
