// A map of digits: a thousand images in the plane, as the network sees them, and your drawing among them.

import { byId, css, el, part, setText, surface } from "../dom.js";
import { loadMap, middles, nearest, placeOf, stepTo } from "../map.js";
import { about, among, imageOf, isDark, MOST_NAMES, paintName, say, sheetOf } from "./map-look.js";

/** @import { Slate } from "../draw.js" */
/** @import { View } from "../main.js" */
/** @import { DigitMap, Place } from "../map.js" */
/** @import { Config } from "../net/config.js" */
/** @import { Shown } from "../reader.js" */
/** @import { Store } from "../state.js" */

/**
 * sheet: the images in their colours; names: where the classes' names stand; ground: all that does not move.
 * @typedef {object} Open
 * @property {string} model
 * @property {DigitMap} map
 * @property {Config} config
 * @property {Map<number, Place>} names
 * @property {HTMLCanvasElement | null} sheet
 * @property {{ size: string, canvas: HTMLCanvasElement } | null} ground
 */

const MARGIN = 18; // pixels around the images
const THUMB = 15; // pixels of a thumbnail
const LARGE = 64; // of the one that is looked at
const REACH = 14; // pixels from a thumbnail's middle within which it is pointed at
const TRAIL = 40; // readings
/** @type {Record<string, Place>} */
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

/** @param {Store} store @param {Slate} slate @param {(sentence: string) => void} notice */
export function createMap(store, slate, notice) {
  const [card, canvas] = [byId("map"), byId("map-canvas", HTMLCanvasElement)];
  const [home, away] = [el("div", { class: "map-home" }), byId("read-title")];
  /** @type {Set<string>} */
  const offered = new Set();
  /** @type {Open | null} */
  let open = null;
  let loading = "";
  /** @type {Place[]} */
  let trail = [];
  /** @type {Shown | null} */
  let last = null;
  /** @type {number | null} */
  let looked = null; // the image that is pointed at or chosen by keys
  /** @type {View | null} */
  let view = null;
  card.before(home);

  byId("map-open").addEventListener("click", () => {
    const isOpen = !store.get().map;
    // Open, it lies beside the drawing area, where there is room.
    if (isOpen) away.after(card);
    else home.after(card);
    byId("map-open").focus();
    trail = [];
    store.set({ map: isOpen });
  });

  /** @param {string} model @param {Config} config */
  async function load(model, config) {
    loading = model;
    open = null;
    try {
      const map = await loadMap(model, (received, total) => {
        const of = total === null ? "" : ` of ${Math.ceil(total / 1000)}`;
        setText(byId("map-say"), `Loading the map: ${Math.ceil(received / 1000)}${of} kB ...`);
      });
      if (loading !== model) return;
      open = { model, map, config, sheet: null, names: middles(map), ground: null };
      [trail, looked] = [[], null];
      setText(byId("map-say"), say(map, config));
      paint();
    } catch (error) {
      notice(error instanceof Error ? error.message : String(error));
      store.set({ map: false });
    }
    loading = "";
  }

  // From places on the map to pixels of the canvas.
  function frame() {
    const width = canvas.clientWidth;
    const points = /** @type {Open} */ (open).map.points;
    const [left, right] = range(points.map(([x]) => x));
    const [low, high] = range(points.map(([, y]) => y));
    const scale = (width - 2 * MARGIN) / Math.max(right - left, 1e-9);
    const height = Math.min(1.1 * width, Math.max(0.5 * width, (high - low) * scale + 2 * MARGIN));
    const stretch = (height - 2 * MARGIN) / Math.max(high - low, 1e-9);
    const most = Math.min(scale, stretch); // the same for both axes, or distances would mislead
    /** @param {Place} place @returns {Place} */
    const at = ([x, y]) => [
      clamp(width / 2 + (x - (left + right) / 2) * most, width),
      clamp(height / 2 - (y - (low + high) / 2) * most, height),
    ];
    return { width, height, at };
  }

  function paint() {
    if (!open || !view) return;
    const { map } = open;
    const { width, height, at } = frame();
    if (!width) return;
    canvas.style.height = `${height}px`;
    const context = surface(canvas, width, height);
    const size = `${canvas.width} ${canvas.height} ${isDark()}`;
    if (open.ground?.size !== size) open.ground = { size, canvas: paintGround(width, height, at) };
    context.drawImage(open.ground.canvas, 0, 0, width, height);
    paintTrail(context, at);
    if (looked !== null) paintThumb(context, looked, inside(at(map.points[looked]), width, height), LARGE);
  }

  /**
   * All images and the names of the classes: painted once, not for every reading.
   * @param {number} width @param {number} height @param {(place: Place) => Place} at
   */
  function paintGround(width, height, at) {
    const shown = /** @type {Open} */ (open);
    const { map, config, names } = shown;
    shown.sheet = sheetOf(map, config);
    const ground = el("canvas");
    const context = surface(ground, width, height);
    for (const [i, point] of map.points.entries()) paintThumb(context, i, at(point), THUMB);
    for (const [label, place] of names.size <= MOST_NAMES ? names : [])
      paintName(context, config.classes[label], at(place));
    return ground;
  }

  /** @param {CanvasRenderingContext2D} context @param {number} i @param {Place} place @param {number} size */
  function paintThumb(context, i, [x, y], size) {
    const { map, sheet } = /** @type {Open} */ (open);
    const [column, row] = [i % map.columns, Math.floor(i / map.columns)];
    const [left, top] = [x - size / 2, y - size / 2];
    if (size === LARGE) {
      context.fillStyle = css("--card");
      context.fillRect(left - 3, top - 3, size + 6, size + 6);
      context.strokeStyle = css("--mark");
      context.lineWidth = 2;
      context.strokeRect(left - 3, top - 3, size + 6, size + 6);
    }
    const from = map.side * column;
    context.drawImage(
      /** @type {HTMLCanvasElement} */ (sheet),
      from,
      map.side * row,
      map.side,
      map.side,
      left,
      top,
      size,
      size,
    );
  }

  /** @param {CanvasRenderingContext2D} context @param {(place: Place) => Place} at */
  function paintTrail(context, at) {
    if (!trail.length || view?.empty) return;
    context.strokeStyle = css("--mark");
    context.lineWidth = 2;
    context.globalAlpha = 0.6;
    context.beginPath();
    for (const place of trail) context.lineTo(...at(place));
    context.stroke();
    context.globalAlpha = 1;
    const [x, y] = at(trail[trail.length - 1]);
    for (const [colour, line] of /** @type {[string, number][]} */ ([
      [css("--card"), 7],
      [css("--mark"), 4],
    ])) {
      context.strokeStyle = colour;
      context.lineWidth = line;
      context.beginPath();
      context.arc(x, y, 12, 0, 2 * Math.PI);
      context.stroke();
    }
  }

  /** @param {PointerEvent | MouseEvent} event */
  function under(event) {
    if (!open) return null;
    const box = canvas.getBoundingClientRect();
    const { at } = frame();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const far = open.map.points.map((point) => {
      const [a, b] = at(point);
      return Math.hypot(a - x, b - y);
    });
    const best = far.reduce((least, one, i) => (one < far[least] ? i : least), 0);
    return far[best] <= REACH ? best : null;
  }

  /** @param {number | null} index */
  function look(index) {
    if (looked === index) return;
    looked = index;
    setText(byId("map-looked"), index === null || !open ? "" : about(open.map, open.config, index));
    paint();
  }

  /** @param {number | null} index */
  function take(index) {
    if (index === null || !open) return;
    const { map, config } = open;
    const label = config.classes[map.labels[index]] ?? null;
    slate.lay(imageOf(map, index), "picture", { label, data: map.data });
  }

  canvas.addEventListener("pointermove", (event) => event.pointerType === "mouse" && look(under(event)));
  canvas.addEventListener("pointerleave", () => look(null));
  canvas.addEventListener("blur", () => look(null));
  canvas.addEventListener("click", (event) => {
    look(under(event));
    take(looked);
  });
  canvas.addEventListener("keydown", (event) => {
    if (!open) return;
    const { points } = open.map;
    const direction = ARROWS[event.key];
    if (direction)
      look(
        looked === null ? nearest(points, trail[trail.length - 1] ?? [0, 0], 1)[0] : stepTo(points, looked, direction),
      );
    else if (event.key === "Enter" || event.key === " ") take(looked);
    else return;
    event.preventDefault();
  });

  return {
    /** @param {{ id: string, map?: boolean }[]} models of models.json */
    offer(models) {
      for (const { id, map } of models) if (map) offered.add(id);
    },
    /** @param {View} now */
    render(now) {
      view = now;
      const { state, model, reading, empty } = now;
      const has = state.model !== null && offered.has(state.model);
      card.hidden = !has;
      const isOpen = has && state.map;
      byId("map-body").hidden = !isOpen;
      setText(byId("map-open"), isOpen ? "Close the map" : "Show the map");
      part(card, "h3").textContent = model?.config.drawing === null ? "A map of images" : "A map of digits";
      if (!isOpen || !model || state.model === null || model.model !== state.model) return;
      if (open?.model !== state.model && loading !== state.model) load(state.model, model.config);
      if (!open || open.model !== state.model) return;
      if (reading?.traits && reading !== last) {
        last = reading;
        trail = empty ? [] : [...trail, placeOf(reading.traits, open.map)].slice(-TRAIL);
      }
      setText(
        byId("map-now"),
        reading && !empty && trail.length
          ? among(open.map, open.config, trail[trail.length - 1], reading, state.epoch)
          : "",
      );
      paint();
    },
  };
}

/** @param {number[]} values @returns {[number, number]} */
const range = (values) => [Math.min(...values), Math.max(...values)];

/** @param {number} value @param {number} most */
const clamp = (value, most) => Math.min(most - MARGIN / 2, Math.max(MARGIN / 2, value));

/**
 * A place for the large thumbnail that does not cover what is under the pointer, and is not cut off.
 * @param {Place} place @param {number} width @param {number} height
 * @returns {Place}
 */
function inside([x, y], width, height) {
  const half = LARGE / 2 + 6;
  const above = y - half - THUMB;
  return [Math.min(width - half, Math.max(half, x)), above < half ? Math.min(height - half, y + half + THUMB) : above];
}
