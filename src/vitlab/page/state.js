// What the user has chosen: one object, which is also the part of the address after #.

import { readCut } from "./net/cuts.js";
import { decodeStrokes, encodeStrokes } from "./strokes.js";

/** @import { Stroke } from "./strokes.js" */
/** @import { Kind } from "./net/worker.js" */
/**
 * Strokes, alone or on top of a known image or a picture. index: which known image; label and data (its class and its
 * data set) are there once it has been laid under the strokes.
 * @typedef {object} Drawing
 * @property {"strokes" | "example" | "picture"} kind
 * @property {Stroke[]} strokes
 * @property {number} [index]
 * @property {string | null} [label]
 * @property {string | null} [data]
 *
 * model and compare are ids. query is the patch that is followed, hover the one pointed at, tap what a click on a patch
 * does. cuts: what is switched off in the network (net/cuts.js). block and head: where the followed patch is opened, from
 * 0. demo: the drawing is the page's own first digit.
 * @typedef {object} State
 * @property {string | null} model
 * @property {string | null} compare
 * @property {boolean} center
 * @property {number[]} hidden
 * @property {string[]} cuts
 * @property {number} block
 * @property {number} head
 * @property {number | null} query
 * @property {number | null} hover
 * @property {"follow" | "hide"} tap
 * @property {number} rotate
 * @property {number} shift
 * @property {number} noise
 * @property {number} threshold
 * @property {Drawing} drawing
 * @property {boolean} demo
 * @property {boolean} arcs  whether the tokens show what they take from each other
 * @property {boolean} map  whether the map of images is open
 * @property {number | null} epoch  of the network's training, if it is shown as it was then
 *
 * @typedef {(state: State, before: State) => void} Listener
 * @typedef {ReturnType<typeof createStore>} Store
 * @typedef {{ least: number, most: number, step: number, unit: string, name: string }} Range
 */

export const LONGEST = 1800; // characters after #: messengers and mail programs cut longer addresses

const ID = /^[a-z0-9][a-z0-9_-]{0,63}$/; // of models.json; the ids of the user's own files do not match

/** @type {Record<Kind, Range>} */
export const RANGES = {
  rotate: { least: -90, most: 90, step: 5, unit: "°", name: "Rotation" },
  shift: { least: -8, most: 8, step: 1, unit: " px", name: "Shift" },
  noise: { least: 0, most: 1, step: 0.05, unit: "", name: "Noise" },
};
export const KINDS = /** @type {Kind[]} */ (Object.keys(RANGES));

/** @type {State} */
export const INITIAL = {
  model: null,
  compare: null,
  center: true,
  hidden: [],
  cuts: [],
  block: 0,
  head: 0,
  query: null,
  hover: null,
  tap: "follow",
  rotate: 0,
  shift: 0,
  noise: 0,
  threshold: 0.5,
  drawing: { kind: "strokes", strokes: [] },
  demo: false,
  arcs: true,
  map: false,
  epoch: null,
};

/** @param {Partial<State>} initial */
export function createStore(initial) {
  let state = { ...INITIAL, ...initial };
  /** @type {Listener[]} */
  const listeners = [];
  return {
    get: () => state,
    /** @param {Listener} listener */
    listen(listener) {
      listeners.push(listener);
    },
    /** @param {Partial<State>} changes */
    set(changes) {
      const before = state;
      const after = { ...before, ...changes };
      if (/** @type {(keyof State)[]} */ (Object.keys(changes)).every((name) => before[name] === after[name])) return;
      state = after;
      for (const listener of listeners) listener(state, before);
    },
  };
}

/** @param {State} state */
export const disturbed = (state) => KINDS.some((kind) => state[kind] !== 0);

/**
 * The patch that all panels mark: the one pointed at, else the one followed.
 * @param {State} state
 */
export const marked = (state) => state.hover ?? state.query;

/** @param {State} state */
export function toHash(state) {
  const hash = new URLSearchParams();
  if (state.model && ID.test(state.model)) hash.set("model", state.model);
  if (state.compare && ID.test(state.compare)) hash.set("compare", state.compare);
  if (!state.center) hash.set("center", "0");
  if (state.hidden.length) hash.set("hide", state.hidden.map((patch) => patch + 1).join("."));
  if (state.cuts.length) hash.set("off", state.cuts.join("-"));
  if (state.query !== null) hash.set("patch", String(state.query + 1));
  for (const name of /** @type {const} */ (["block", "head"])) if (state[name]) hash.set(name, String(state[name] + 1));
  for (const kind of KINDS) if (state[kind]) hash.set(kind, String(state[kind]));
  if (state.threshold !== INITIAL.threshold) hash.set("sure", String(state.threshold));
  if (state.epoch !== null) hash.set("epoch", String(state.epoch));
  const { kind, index, strokes } = state.drawing;
  if (kind === "example") hash.set("test", String(index));
  const text = state.demo ? "" : encodeStrokes(strokes);
  if (text && kind !== "picture" && hash.toString().length + text.length + 8 <= LONGEST) hash.set("strokes", text);
  return hash.toString();
}

const KEYS = [
  "model",
  "compare",
  "center",
  "hide",
  "off",
  "patch",
  "block",
  "head",
  ...KINDS,
  "sure",
  "epoch",
  "test",
  "strokes",
];

/**
 * Whether the text after # holds choices; links to a section of the page do not.
 * @param {string} text
 */
export function holdsChoices(text) {
  const hash = new URLSearchParams(text);
  return KEYS.some((key) => hash.has(key));
}

/**
 * The choices in such a text; anything missing, malformed or out of range is left out.
 * @param {string} text
 */
export function fromHash(text) {
  const hash = new URLSearchParams(text.slice(0, 2 * LONGEST));
  /** @type {Partial<State>} */
  const found = {};
  const [model, compare] = [hash.get("model") ?? "", hash.get("compare") ?? ""];
  if (ID.test(model)) found.model = model;
  if (ID.test(compare)) found.compare = compare;
  if (hash.get("center") === "0") found.center = false;
  const numbers = (hash.get("hide") ?? "").split(".").map(fromOne);
  const hidden = numbers.filter((patch) => patch !== null);
  if (hidden.length) found.hidden = [...new Set(hidden)].slice(0, 1024);
  const cuts = (hash.get("off") ?? "").split("-").filter((name) => readCut(name) !== null);
  if (cuts.length) found.cuts = [...new Set(cuts)].slice(0, 1024);
  const query = fromOne(hash.get("patch"));
  if (query !== null) found.query = query;
  for (const name of /** @type {const} */ (["block", "head"])) {
    const number = fromOne(hash.get(name));
    if (number !== null) found[name] = number;
  }
  for (const kind of KINDS) {
    const value = Number(hash.get(kind) ?? Number.NaN);
    if (value >= RANGES[kind].least && value <= RANGES[kind].most) found[kind] = value;
  }
  const threshold = Number(hash.get("sure") ?? Number.NaN);
  if (threshold >= 0 && threshold <= 0.95) found.threshold = threshold;
  const epoch = wholeNumber(hash.get("epoch"));
  if (epoch !== null) found.epoch = epoch;
  const strokes = decodeStrokes(hash.get("strokes") ?? "") ?? [];
  const index = wholeNumber(hash.get("test"));
  if (index !== null) found.drawing = { kind: "example", index, strokes };
  else if (strokes.length) found.drawing = { kind: "strokes", strokes };
  return found;
}

/**
 * Patches, blocks and heads count from 1 in the address, as on the page.
 * @param {string | null} text
 */
function fromOne(text) {
  const number = wholeNumber(text);
  return number ? number - 1 : null;
}

/** @param {string | null} text */
const wholeNumber = (text) => (text !== null && /^\d{1,4}$/.test(text) ? Number(text) : null);
