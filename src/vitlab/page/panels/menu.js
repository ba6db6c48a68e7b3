// Networks to choose from: two lists, and a picture of accuracy against training time whose points load a network.

import { byId, el, setText, svg } from "../dom.js";

const [WIDTH, HEIGHT] = [300, 190];
const FEW = 8; // points that are named
const [LEFT, RIGHT, TOP, BOTTOM] = [44, 14, 12, 34];

export function createMenu(store, models, study) {
  const [first, second] = [byId("model"), byId("compare")];
  first.addEventListener("change", () => store.set({ model: first.value }));
  second.addEventListener("change", () => store.set({ compare: second.value || null }));
  const list = models.map((entry) => ({ id: entry.id, name: entry.name }));
  const points = pointsOf(models, study);
  if (points.length > 1) scatter(points, study, store);

  return {
    // A network that the reader has opened from files.
    add(id, name) {
      if (!list.some((entry) => entry.id === id)) list.push({ id, name });
      else list.find((entry) => entry.id === id).name = name;
    },
    render({ state }) {
      fill(first, list, state.model);
      fill(second, [{ id: "", name: "none" }, ...list.filter(({ id }) => id !== state.model)], state.compare ?? "");
      for (const point of document.querySelectorAll("#scatter [data-id]")) {
        point.classList.toggle("chosen", point.dataset.id === state.model);
        point.setAttribute("aria-pressed", point.dataset.id === state.model);
      }
    },
  };
}

function fill(select, entries, value) {
  const same =
    select.options.length === entries.length &&
    entries.every(({ id, name }, i) => select.options[i].value === id && select.options[i].text === name);
  if (!same) select.replaceChildren(...entries.map(({ id, name }) => el("option", { value: id }, name)));
  if (select.value !== (value ?? "")) select.value = value ?? "";
}

// The cells of a study; without one the networks themselves.
function pointsOf(models, study) {
  const points =
    study?.points ??
    models.map((m) => ({
      id: m.id,
      cell: m.name,
      seconds: m.train_seconds,
      accuracy: m.test_top1,
      interval: null,
      on_front: false,
    }));
  return points.filter(({ seconds, accuracy }) => seconds > 0 && accuracy > 0);
}

function scatter(points, study, store) {
  byId("menu").hidden = false;
  setText(byId("menu-title"), study ? `The study ${study.name}` : "Accuracy against training time");
  setText(
    byId("menu-say"),
    study
      ? "Click a filled point to load it; the others were measured only. The line joins the best for their time."
      : "Click a point to load that network.",
  );
  const x = scale(
    points.map((p) => Math.log(p.seconds)),
    LEFT,
    WIDTH - RIGHT,
  );
  const y = scale(
    points.flatMap((p) => p.interval ?? [p.accuracy]),
    HEIGHT - BOTTOM,
    TOP,
  );
  const picture = svg("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    role: "group",
    "aria-label": "Networks by accuracy and training time",
  });
  picture.append(...axes(points, x, y));
  const front = points.filter((p) => p.on_front).sort((a, b) => a.seconds - b.seconds);
  if (front.length > 1)
    picture.append(
      svg("polyline", {
        class: "front",
        points: front.map((p) => `${x(Math.log(p.seconds))},${y(p.accuracy)}`).join(" "),
      }),
    );
  for (const point of points) picture.append(mark(point, x(Math.log(point.seconds)), y, store, points.length <= FEW));
  byId("scatter").replaceChildren(picture);
}

function scale(values, from, to) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = 0.12 * (high - low) || Math.abs(high) * 0.01 || 1;
  return (value) => from + ((value - low + room) / (high - low + 2 * room)) * (to - from);
}

function axes(points, x, y) {
  const [low, high] = [Math.min(...points.map((p) => p.accuracy)), Math.max(...points.map((p) => p.accuracy))];
  const [quick, slow] = [Math.min(...points.map((p) => p.seconds)), Math.max(...points.map((p) => p.seconds))];
  const parts = [svg("path", { class: "axis", d: `M${LEFT} ${TOP}V${HEIGHT - BOTTOM}H${WIDTH - RIGHT}` })];
  for (const value of new Set([low, high]))
    parts.push(
      svg(
        "text",
        { x: LEFT - 6, y: y(value) + 4, class: "tick end" },
        `${(100 * value).toFixed(high - low < 0.02 ? 2 : 1)}`,
      ),
    );
  for (const value of new Set([quick, slow]))
    parts.push(svg("text", { x: x(Math.log(value)), y: HEIGHT - BOTTOM + 15, class: "tick middle" }, time(value)));
  parts.push(
    svg("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 4, class: "tick middle" }, "training time (logarithmic)"),
  );
  parts.push(svg("text", { x: 4, y: TOP + 2, class: "tick" }, "%"));
  return parts;
}

const time = (seconds) =>
  seconds < 100
    ? `${Math.round(seconds)} s`
    : seconds < 6000
      ? `${Math.round(seconds / 60)} min`
      : `${(seconds / 3600).toFixed(1)} h`;

function mark(point, x, y, store, named) {
  const text = `${point.cell}: ${(100 * point.accuracy).toFixed(2)} % in ${time(point.seconds)}`;
  const parts = [svg("title", {}, text)];
  if (point.interval)
    parts.push(svg("path", { class: "whisker", d: `M${x} ${y(point.interval[0])}V${y(point.interval[1])}` }));
  parts.push(svg("circle", { class: "dot", cx: x, cy: y(point.accuracy), r: 6 }));
  const right = x < WIDTH / 2;
  if (named)
    parts.push(
      svg(
        "text",
        { x: right ? x + 11 : x - 11, y: y(point.accuracy) + 4, class: right ? "tick" : "tick end" },
        point.cell,
      ),
    );
  if (point.id === null) return svg("g", { class: "measured" }, ...parts);
  parts.push(svg("circle", { class: "target", cx: x, cy: y(point.accuracy), r: 16 }));
  const load = () => store.set({ model: point.id });
  return svg(
    "g",
    {
      class: "loadable",
      tabindex: 0,
      role: "button",
      "data-id": point.id,
      "aria-label": `Load ${text}`,
      onclick: load,
      onpointerenter: () => setText(byId("menu-say"), text),
      onfocus: () => setText(byId("menu-say"), text),
      onkeydown: (event) => (event.key === "Enter" || event.key === " ") && (event.preventDefault(), load()),
    },
    ...parts,
  );
}
