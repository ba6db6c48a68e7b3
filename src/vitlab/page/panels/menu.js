// Networks to choose from: two lists, and a plot of accuracy against training time whose points load a network.

import { byId, el, setAttribute, setText, svg } from "../dom.js";

/** @import { View } from "../main.js" */
/** @import { Store } from "../state.js" */
/**
 * models.json. id: null for a cell of the study whose network is not here.
 * on: the images that the accuracy is on. Only accuracies on the same ones share a plot.
 * @typedef {object} Entry
 * @property {string} id
 * @property {string} name
 * @property {number | null} test_top1
 * @property {number | null} train_seconds
 * @property {string} [on]
 * @property {import("../epochs.js").Replay} [replay]  what is known of its training
 * @property {boolean} [map]  whether it has a map of images
 * @typedef {object} Point
 * @property {string | null} id
 * @property {string} cell
 * @property {number | null} seconds
 * @property {number | null} accuracy
 * @property {[number, number] | null} interval
 * @property {boolean} on_front
 * @property {string} [on]
 * @typedef {{ name: string, points: Point[] }} Study
 * @typedef {{ models: Entry[], study: Study | null }} MenuFile
 *
 * @typedef {Point & { seconds: number, accuracy: number }} Placed
 * @typedef {(value: number) => number} Scale  to pixels
 * @typedef {ReturnType<typeof createMenu>} Menu
 */

const [WIDTH, HEIGHT] = [300, 190];
const [LEFT, RIGHT, TOP, BOTTOM] = [44, 14, 12, 34];
const FEW = 8; // points that are named

/** @param {Store} store @param {Entry[]} models @param {Study | null} study */
export function createMenu(store, models, study) {
  const [first, second] = [byId("model", HTMLSelectElement), byId("compare", HTMLSelectElement)];
  first.addEventListener("change", () => store.set({ model: first.value }));
  second.addEventListener("change", () => store.set({ compare: second.value || null }));
  const list = models.map(({ id, name }) => ({ id, name }));
  const points = (study?.points ?? models.map(asPoint)).filter(isPlaced);
  const groups = points.length > 1 ? scatters(points, study, store) : new Map();

  return {
    /**
     * A network that the user has opened from files.
     * @param {string} id @param {string} name
     */
    add(id, name) {
      list.push({ id, name });
    },
    /** @param {View} view */
    render({ state }) {
      fill(first, list, state.model ?? "");
      fill(second, [{ id: "", name: "none" }, ...list.filter(({ id }) => id !== state.model)], state.compare ?? "");
      for (const [id, group] of groups) {
        group.classList.toggle("chosen", id === state.model);
        group.classList.toggle("compared", id === state.compare);
        setAttribute(group, "aria-pressed", String(id === state.model));
      }
    },
  };
}

/** @param {HTMLSelectElement} select @param {{ id: string, name: string }[]} entries @param {string} value */
function fill(select, entries, value) {
  const same =
    select.options.length === entries.length &&
    entries.every(({ id, name }, i) => select.options[i].value === id && select.options[i].text === name);
  if (!same) select.replaceChildren(...entries.map(({ id, name }) => el("option", { value: id }, name)));
  if (select.value !== value) select.value = value;
}

/**
 * @param {Entry} entry
 * @returns {Point}
 */
function asPoint({ id, name, train_seconds: seconds, test_top1: accuracy, on }) {
  return { id, cell: name, seconds, accuracy, interval: null, on_front: false, on };
}

/**
 * @param {Point} point
 * @returns {point is Placed}
 */
function isPlaced(point) {
  const { seconds, accuracy } = point;
  return seconds !== null && seconds > 0 && accuracy !== null && accuracy > 0;
}

/**
 * Draws a plot for each set of images; the groups of the points that load a network, by its id.
 * @param {Placed[]} points @param {Study | null} study @param {Store} store
 */
function scatters(points, study, store) {
  byId("menu").hidden = false;
  setText(byId("menu-title"), study ? `Study ${study.name}` : "Accuracy against training time");
  setText(
    byId("menu-say"),
    study
      ? "Click a filled point to load its network; the others were only measured. The line joins the best for their time."
      : "Click a point to load its network.",
  );
  const groups = new Map();
  /** @type {Element[]} */
  const shown = [];
  for (const on of new Set(points.map((p) => p.on))) {
    if (on) shown.push(el("p", { class: "small" }, `Accuracy on ${on}`));
    const own = points.filter((p) => p.on === on);
    shown.push(scatter(own, store, groups));
  }
  byId("scatter").replaceChildren(...shown);
  return groups;
}

/**
 * The plot of accuracies on the same images; adds the groups of the points that load a network to `groups`.
 * @param {Placed[]} points @param {Store} store @param {Map<string, SVGElement>} groups
 */
function scatter(points, store, groups) {
  const log = scale(
    points.map((p) => Math.log(p.seconds)),
    LEFT,
    WIDTH - RIGHT,
  );
  /** @type {Scale} */
  const x = (seconds) => log(Math.log(seconds));
  const y = scale(
    points.flatMap((p) => p.interval ?? [p.accuracy]),
    HEIGHT - BOTTOM,
    TOP,
  );
  const on = points[0].on ? `accuracy on ${points[0].on}` : "accuracy";
  const label = `Networks by ${on} and training time`;
  const plot = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "group", "aria-label": label });
  plot.append(...axes(points, x, y));
  const front = points.filter((p) => p.on_front).sort((a, b) => a.seconds - b.seconds);
  if (front.length > 1) {
    const corners = front.map((p) => `${x(p.seconds)},${y(p.accuracy)}`).join(" ");
    plot.append(svg("polyline", { class: "front", points: corners }));
  }
  for (const point of points) {
    const parts = mark(point, x(point.seconds), y, points.length <= FEW);
    const { id } = point;
    if (id === null) {
      plot.append(svg("g", { class: "measured" }, ...parts));
    } else {
      const group = button(describe(point), () => store.set({ model: id }), parts);
      groups.set(id, group);
      plot.append(group);
    }
  }
  return plot;
}

/**
 * @param {number[]} values @param {number} from @param {number} to
 * @returns {Scale}
 */
function scale(values, from, to) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = 0.12 * (high - low) || Math.abs(high) * 0.01 || 1;
  return (value) => from + ((value - low + room) / (high - low + 2 * room)) * (to - from);
}

/** @param {Placed[]} points @param {Scale} x @param {Scale} y */
function axes(points, x, y) {
  const [accuracies, times] = [points.map((p) => p.accuracy), points.map((p) => p.seconds)];
  const [low, high] = [Math.min(...accuracies), Math.max(...accuracies)];
  const digits = high - low < 0.02 ? 2 : 1;
  const right = [...new Set([low, high])].map((accuracy) =>
    svg("text", { x: LEFT - 6, y: y(accuracy) + 4, class: "tick end" }, (100 * accuracy).toFixed(digits)),
  );
  const below = [...new Set([Math.min(...times), Math.max(...times)])].map((seconds) =>
    svg("text", { x: x(seconds), y: HEIGHT - BOTTOM + 15, class: "tick middle" }, time(seconds)),
  );
  const middle = (LEFT + WIDTH - RIGHT) / 2;
  return [
    svg("path", { class: "axis", d: `M${LEFT} ${TOP}V${HEIGHT - BOTTOM}H${WIDTH - RIGHT}` }),
    ...right,
    ...below,
    svg("text", { x: middle, y: HEIGHT - 4, class: "tick middle" }, "training time (log scale)"),
    svg("text", { x: 4, y: TOP + 2, class: "tick" }, "%"),
  ];
}

/** @param {number} seconds */
function time(seconds) {
  if (seconds < 100) return `${Math.round(seconds)} s`;
  return seconds < 6000 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

/** @param {Placed} point */
const describe = ({ cell, accuracy, seconds }) => `${cell}: ${(100 * accuracy).toFixed(2)} % in ${time(seconds)}`;

/**
 * A point with its interval and, if there are few, its name.
 * @param {Placed} point @param {number} x @param {Scale} y @param {boolean} named
 */
function mark(point, x, y, named) {
  const { interval, accuracy, cell } = point;
  /** @type {SVGElement[]} */
  const parts = [svg("title", {}, describe(point))];
  if (interval) parts.push(svg("path", { class: "whisker", d: `M${x} ${y(interval[0])}V${y(interval[1])}` }));
  parts.push(svg("circle", { class: "dot", cx: x, cy: y(accuracy), r: 6 }));
  if (named) {
    const right = x < WIDTH / 2;
    const place = { x: right ? x + 11 : x - 11, y: y(accuracy) + 4, class: right ? "tick" : "tick end" };
    parts.push(svg("text", place, cell));
  }
  if (point.id !== null) parts.push(svg("circle", { class: "target", cx: x, cy: y(accuracy), r: 16 }));
  return parts;
}

/**
 * A point that loads its network.
 * @param {string} text @param {() => void} load @param {SVGElement[]} parts
 */
function button(text, load, parts) {
  const tell = () => setText(byId("menu-say"), text);
  const group = svg("g", { class: "loadable", tabindex: 0, role: "button", "aria-label": `Load ${text}` }, ...parts);
  group.addEventListener("click", load);
  group.addEventListener("pointerenter", tell);
  group.addEventListener("focus", tell);
  group.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    load();
  });
  return group;
}
