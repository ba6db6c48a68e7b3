// The whole network as a picture of its true shape: every number, learned or computed, takes the same area. Each part is a
// button that leads to the panel that shows it.

import { byId, el, picture, setText, svg } from "../dom.js";
import { partsOf } from "./parts.js";
import { counted } from "./vector.js";

/** @import { View } from "../main.js" */
/** @import { Loaded } from "../net/worker.js" */
/** @import { Store } from "../state.js" */
/** @import { Part, Shape } from "./parts.js" */

const MOST_UNIT = 2; // pixels a side for one number, at most
const [TALL, AREA] = [150, 120_000]; // the picture's area in pixels: its width times this, and at least so many
const [GAP, LEAST] = [4, 1.5]; // pixels between two rectangles; a side of a rectangle, at least
const [LINE, LETTER] = [15, 8]; // pixels that a name in a rectangle needs: its height, and each letter
const INDENT = 44; // pixels that a part's frame takes from the width

/** @param {Store} store */
export function createNetwork(store) {
  const box = byId("network-parts");
  /** @type {Loaded | null} */
  let shown = null;
  let width = 0;
  byId("network-key").append(
    el("span", { class: "named" }, el("i", { class: "swatch weights" }), "learned numbers"),
    el("span", { class: "named" }, el("i", { class: "swatch values" }), "numbers that change with what you draw"),
  );

  /** @param {View} view */
  return function render({ model, reading, state }) {
    byId("network").hidden = !model;
    if (!model) return;
    if (model !== shown || Math.abs(box.clientWidth - width) > 1) {
      [shown, width] = [model, box.clientWidth];
      setText(byId("network-say"), say(model));
      lay(partsOf(model));
    }
    for (const button of box.querySelectorAll("button")) {
      const { block, head } = button.dataset;
      const cut =
        state.cuts.includes(`b${Number(block) + 1}`) ||
        state.cuts.includes(`h${Number(block) + 1}.${Number(head) + 1}`);
      button.classList.toggle("off", cut);
    }
    if (reading) paintInput(model, reading.image);
  };

  /** @param {Part[]} parts */
  function lay(parts) {
    const unit = unitFor(parts, width);
    /** @type {HTMLElement[]} */
    const children = [];
    for (const part of parts) {
      const button = partButton(part, unit, width, () => open(part));
      if (!part.group) children.push(button);
      else if (children.at(-1)?.dataset.group === part.group) children.at(-1)?.append(button);
      else children.push(groupBox(part.group, sum(parts, part.group), button));
    }
    box.replaceChildren(...children);
  }

  /** @param {Part} part */
  function open({ opens, block, head }) {
    const { query } = store.get();
    const grid = shown?.squares.grid ?? 1;
    const middle = Math.floor(grid / 2) * (grid + 1);
    if (opens === "inside") store.set({ query: query ?? middle, block: block ?? 0, head: head ?? store.get().head });
    const panel = byId(opens);
    panel.scrollIntoView();
    panel.setAttribute("tabindex", "-1");
    panel.focus({ preventScroll: true });
  }

  /**
   * One picture for each colour.
   * @param {Loaded} model @param {Float32Array} values row, column, channel
   */
  function paintInput({ squares: { size }, config: { channels } }, values) {
    const addresses = Array.from({ length: channels }, (_, channel) =>
      picture(
        values.filter((__, i) => i % channels === channel),
        size,
        size,
        1,
      ).toDataURL(),
    );
    box.querySelectorAll("image").forEach((one, i) => void one.setAttribute("href", addresses[i % channels]));
  }
}

/** @param {Loaded} model */
function say(model) {
  const total = sum(partsOf(model));
  const learned = `${counted(total)} learned numbers`;
  return `From the image to the answer: ${learned}. Every number takes up the same area. Choose a part to look inside.`;
}

/** @param {Part[]} parts @param {string} [group] */
function sum(parts, group) {
  return parts.reduce((total, part) => total + (group && part.group !== group ? 0 : part.parameters), 0);
}

/**
 * Pixels a side of one number.
 * @param {Part[]} parts @param {number} width
 */
function unitFor(parts, width) {
  const shapes = parts.flatMap((part) => part.shapes);
  const numbers = shapes.reduce((total, { wide, high }) => total + wide * high, 0);
  return Math.min(MOST_UNIT, Math.sqrt(Math.max(width * TALL, AREA) / numbers));
}

/** @param {string} name @param {number} parameters @param {HTMLElement} first */
function groupBox(name, parameters, first) {
  const title = el("p", { class: "small" }, el("b", {}, name), ` · ${counted(parameters)} learned numbers`);
  return el("div", { class: "part-group", "data-group": name, role: "group", "aria-label": name }, title, first);
}

/**
 * @param {Part} part @param {number} unit @param {number} width @param {() => void} open
 */
function partButton({ name, says, group, parameters, shapes, block, head }, unit, width, open) {
  const learned = parameters ? `${counted(parameters)} learned` : "nothing learned";
  const drawn = draw(shapes, unit, width - INDENT);
  const words = el(
    "span",
    { class: "part-words" },
    el("strong", {}, name),
    el("span", {}, says),
    el("span", {}, learned),
  );
  const whole = [group, name].filter(Boolean).join(", ");
  return el(
    "button",
    {
      type: "button",
      class: "part",
      title: `${whole}: ${says}`,
      "data-block": block,
      "data-head": head,
      onclick: open,
    },
    drawn,
    words,
  );
}

/**
 * Rectangles side by side, in rows where they do not fit; what is wider than the page is folded.
 * @param {Shape[]} shapes @param {number} unit @param {number} width
 */
function draw(shapes, unit, width) {
  let [x, y, row, right] = [0, 0, 0, 0];
  /** @type {SVGElement[]} */
  const drawn = [];
  for (const { kind, wide, high, name } of shapes) {
    const folds = Math.max(1, Math.ceil((wide * unit) / width));
    const [w, h] = [Math.max(LEAST, (wide * unit) / folds), Math.max(LEAST, high * unit * folds)];
    if (x > 0 && x + w > width) [x, y, row] = [0, y + row + GAP, 0];
    drawn.push(...rectangle(kind, x, y, w, h));
    if (name && h >= LINE && w >= LETTER * name.replaceAll("_", "").length)
      drawn.push(named(name, x + w / 2, y + h / 2));
    row = Math.max(row, h);
    right = Math.max(right, x + w);
    x += w + GAP;
  }
  const [wide, high] = [right + 2, y + row + 2];
  return svg("svg", { viewBox: `-1 -1 ${wide} ${high}`, width: wide, height: high, "aria-hidden": "true" }, ...drawn);
}

/**
 * "W_q" is W with a small q.
 * @param {string} name @param {number} x @param {number} y
 */
function named(name, x, y) {
  const pieces = name.split(/_(\w)/).map((piece, i) => {
    const span = svg("tspan", i % 2 ? { "font-size": 9 } : {});
    span.textContent = piece;
    return span;
  });
  return svg("text", { x, y: y + 4, class: "name" }, ...pieces);
}

/** @param {Shape["kind"]} kind @param {number} x @param {number} y @param {number} width @param {number} height */
function rectangle(kind, x, y, width, height) {
  const place = { x, y, width, height };
  if (kind === "weights" || kind === "values") return [svg("rect", { ...place, class: kind })];
  return [svg("image", { ...place, class: kind }), svg("rect", { ...place, class: "frame" })];
}
