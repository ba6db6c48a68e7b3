// What the reader has chosen: one object, and the same as the part of the address after #.

import { decodeStrokes, encodeStrokes } from "./strokes.js";

export const LONGEST = 1800; // characters of the part after #: messengers and mailers cut longer addresses

const ID = /^[a-z0-9][a-z0-9_-]{0,63}$/; // of models.json; a reader's own file has none of these

export const RANGES = {
  rotate: { least: -90, most: 90, step: 5, unit: "°", name: "Rotation" },
  shift: { least: -8, most: 8, step: 1, unit: " px", name: "Shift" },
  noise: { least: 0, most: 1, step: 0.05, unit: "", name: "Noise" },
};

// drawing is {kind: "strokes", strokes}, {kind: "example", index, label, data, strokes} (label and data are there once
// it has been laid), or {kind: "picture", strokes}: strokes lie on top.
export const INITIAL = {
  model: null,
  compare: null,
  center: true,
  hidden: [],
  query: null,
  hover: null,
  tap: "follow",
  rotate: 0,
  shift: 0,
  noise: 0,
  threshold: 0.5,
  drawing: { kind: "strokes", strokes: [] },
  demo: false,
};

export function createStore(initial) {
  let state = { ...INITIAL, ...initial };
  const listeners = [];
  return {
    get: () => state,
    listen: (listener) => listeners.push(listener),
    // Change some of it; listeners get (state, before).
    set(changes) {
      const before = state;
      if (Object.entries(changes).every(([name, value]) => before[name] === value)) return;
      state = { ...before, ...changes };
      listeners.forEach((listener) => listener(state, before));
    },
  };
}

export const disturbed = (state) => state.rotate !== 0 || state.shift !== 0 || state.noise !== 0;

// The patch that all panels mark: the one pointed at, else the one chosen.
export const marked = (state) => state.hover ?? state.query;

export function toHash(state) {
  const hash = new URLSearchParams();
  if (state.model && ID.test(state.model)) hash.set("model", state.model);
  if (state.compare && ID.test(state.compare)) hash.set("compare", state.compare);
  if (!state.center) hash.set("center", "0");
  if (state.hidden.length) hash.set("hide", state.hidden.map((patch) => patch + 1).join("."));
  if (state.query !== null) hash.set("patch", state.query + 1);
  for (const name of Object.keys(RANGES)) if (state[name]) hash.set(name, state[name]);
  if (state.threshold !== INITIAL.threshold) hash.set("sure", state.threshold);
  const { kind, index, strokes } = state.drawing;
  if (kind === "example") hash.set("test", index);
  const text = state.demo ? "" : encodeStrokes(strokes);
  if (text && kind !== "picture" && hash.toString().length + text.length + 8 <= LONGEST) hash.set("strokes", text);
  return hash.toString();
}

const KEYS = ["model", "compare", "center", "hide", "patch", ...Object.keys(RANGES), "sure", "test", "strokes"];

// Whether it is such a text at all: links within the page are none.
export function holdsChoices(text) {
  const hash = new URLSearchParams(text);
  return KEYS.some((key) => hash.has(key));
}

// The choices in such a text; what is missing, malformed or out of range is left out.
export function fromHash(text) {
  const hash = new URLSearchParams(text.slice(0, 2 * LONGEST));
  const found = {};
  for (const name of ["model", "compare"]) if (ID.test(hash.get(name) ?? "")) found[name] = hash.get(name);
  if (hash.get("center") === "0") found.center = false;
  const hidden = (hash.get("hide") ?? "")
    .split(".")
    .map(patchNumber)
    .filter((n) => n !== null);
  if (hidden.length) found.hidden = [...new Set(hidden)].slice(0, 1024);
  const query = patchNumber(hash.get("patch"));
  if (query !== null) found.query = query;
  for (const [name, { least, most }] of Object.entries(RANGES)) {
    const value = Number(hash.get(name) ?? Number.NaN);
    if (value >= least && value <= most) found[name] = value;
  }
  const threshold = Number(hash.get("sure") ?? Number.NaN);
  if (threshold >= 0 && threshold <= 0.95) found.threshold = threshold;
  const strokes = decodeStrokes(hash.get("strokes") ?? "") ?? [];
  const index = wholeNumber(hash.get("test"));
  if (index !== null) found.drawing = { kind: "example", index, strokes };
  else if (strokes.length) found.drawing = { kind: "strokes", strokes };
  return found;
}

// Patches count from 1 in the address, as on the page.
const patchNumber = (text) => (wholeNumber(text) > 0 ? wholeNumber(text) - 1 : null);
const wholeNumber = (text) => (/^\d{1,4}$/.test(text ?? "") ? Number(text) : null);
