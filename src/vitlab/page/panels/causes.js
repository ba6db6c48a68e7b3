// Causes: every head, attention and block can be switched off, and what the answer becomes without it is measured.

import { byId, childrenOf, el, keep, setAttribute, setText } from "../dom.js";
import { readCut } from "../net/cuts.js";
import { argmax, percent } from "../net/numbers.js";
import { words } from "../words.js";

/** @import { View } from "../main.js" */
/** @import { Store } from "../state.js" */
/** @import { Causes, Effect, Loaded } from "../net/worker.js" */
/** @typedef {{ title: string, cuts: string[] }} Group */

const NO_PARTS =
  "A CNN has no heads and no attention that could be switched off. Choose a Vision Transformer to see causes.";
const NOTHING = "Nothing is drawn, so there is no answer that could need a part.";
const ATTENDS = "Attention shows where a network looks; only switching a part off shows what it needs.";
const EACH = "Each bar: the answer's probability with this part alone switched off.";
const SWITCHES = "Use the switches to take parts out yourself; the whole page follows.";

/**
 * The second network's has no switches: they are for the first.
 * @param {Store} store @param {typeof byId} [find] the elements of the panel, by the ids of the first network's
 */
export function createCauses(store, find = byId) {
  const parts = find("causes-parts");
  const switches = find === byId;
  find("causes-all").addEventListener("click", () => store.set({ cuts: [] }));

  /** @param {string} cut @param {boolean} on */
  function toggle(cut, on) {
    const others = store.get().cuts.filter((name) => name !== cut);
    store.set({ cuts: on ? others : [...others, cut] });
  }

  /** @param {View} view */
  return function render(view) {
    const { state, model, causes, fresh, empty } = view;
    const cuts = model?.cuts ?? [];
    if (switches) {
      const who = state.compare ? "these networks need" : "this network needs";
      setText(byId("causes-title"), model ? `What ${who} for this ${thing(model)}` : "What it needs");
    }
    setText(find("causes-say"), model ? say(model, empty, switches) : "");
    const known = model && causes && !empty ? causes : null;
    setText(find("causes-finding"), known ? finding(known, /** @type {Loaded} */ (model)) : "");
    find("causes-finding").classList.toggle("again", !fresh);
    setText(find("causes-now"), now(view));
    find("causes-all").hidden = state.cuts.length === 0;
    setText(find("causes-key"), known && cuts.length ? key(known, /** @type {Loaded} */ (model)) : "");
    parts.classList.toggle("again", !fresh);
    parts.classList.toggle("unmeasured", known === null); // then bars would say 0 %
    const groups = model ? groupsOf(cuts) : [];
    keep(parts, groups.length, () => el("section", { class: "cause-group" }, el("h3"), el("ul"))).forEach((box, i) => {
      const [title, list] = childrenOf(box);
      setText(title, groups[i].title);
      const rows = keep(list, groups[i].cuts.length, () => row(switches ? toggle : null));
      groups[i].cuts.forEach((cut, r) => {
        const effect = known?.effects.find((one) => one.cut === cut);
        paint(rows[r], cut, !state.cuts.includes(cut), known, effect, model);
      });
    });
  };
}

/** @param {((cut: string, on: boolean) => void) | null} toggle null for a row without a switch */
function row(toggle) {
  const bar = el("span", { class: "stays", "aria-hidden": "true" }, el("i"), el("b"));
  const name = el("span", { class: "cause" });
  const value = el("span", { class: "value" });
  if (toggle === null) return el("li", {}, name, bar, value);
  const box = el("input", { type: "checkbox", role: "switch" });
  box.addEventListener("change", () => toggle(box.name, box.checked));
  return el("li", {}, el("label", {}, box, name), bar, value);
}

/**
 * @param {HTMLElement} item @param {string} cut @param {boolean} on @param {Causes | null} causes
 * @param {Effect | undefined} effect @param {Loaded | null} model
 */
function paint(item, cut, on, causes, effect, model) {
  const [label, bar, value] = childrenOf(item);
  const box = item.querySelector("input");
  setText(box ? childrenOf(label)[1] : label, short(cut));
  if (box) {
    box.name = cut;
    box.checked = on;
    setAttribute(box, "aria-label", full(cut));
  }
  const [rest, before] = childrenOf(bar);
  const left = causes && effect ? effect.probability : 0;
  rest.style.width = `${(100 * left).toFixed(2)}%`;
  before.style.left = `${(100 * (causes?.probability ?? 0)).toFixed(2)}%`;
  const other =
    causes && effect && model && effect.answer !== causes.label ? model.config.classes[effect.answer] : null;
  const text = effect && causes ? percent(effect.probability, 0) + (other === null ? "" : ` · ${other}`) : "";
  setText(value, text);
  value.title = text;
  item.classList.toggle("flips", other !== null);
  rest.classList.toggle("flipped", other !== null);
  item.classList.toggle("off", !on);
}

/**
 * Everything of a block together, then what belongs to none.
 * @param {string[]} cuts
 * @returns {Group[]}
 */
function groupsOf(cuts) {
  /** @type {Group[]} */
  const groups = [];
  for (const cut of cuts) {
    const title = titleOf(cut);
    if (groups.at(-1)?.title !== title) groups.push({ title, cuts: [] });
    groups[groups.length - 1].cuts.push(cut);
  }
  return groups;
}

/** @param {string} name */
function titleOf(name) {
  const cut = readCut(name);
  return cut === null || cut.kind === "positions" ? "Before the blocks" : `Block ${cut.block + 1}`;
}

/**
 * What the switch stands for, below the title of its block.
 * @param {string} name
 */
function short(name) {
  const cut = readCut(name);
  if (cut?.kind === "head") return `head ${cut.head + 1}`;
  if (cut?.kind === "mean") return "choice of attention";
  if (cut?.kind === "mixing") return "mixing of tokens";
  return cut?.kind === "skip" ? "the whole block" : "positions";
}

/**
 * The part, as after "without".
 * @param {string} name
 */
export function full(name) {
  const cut = readCut(name);
  if (cut?.kind === "head") return `head ${cut.head + 1} of block ${cut.block + 1}`;
  if (cut?.kind === "mean") return `the choice of attention in block ${cut.block + 1}`;
  if (cut?.kind === "mixing") return `the mixing of tokens in block ${cut.block + 1}`;
  return cut?.kind === "skip" ? `block ${cut.block + 1}` : "the positions";
}

/** @param {Loaded} model @param {boolean} empty @param {boolean} switches */
function say({ cuts, views }, empty, switches) {
  if (!cuts.length) return NO_PARTS;
  if (empty) return NOTHING;
  if (!switches) return EACH;
  return [views.attention ? ATTENDS : "", EACH, SWITCHES].join(" ").trim();
}

/** @param {Loaded} model */
const thing = ({ config }) => words(config).thing;

/**
 * In one sentence: the smallest part that the answer hangs on.
 * @param {Causes} causes @param {Loaded} model
 */
function finding({ label, probability, effects }, model) {
  if (!effects.length) return "";
  const { classes } = model.config;
  const worst = [...effects].sort((a, b) => a.probability - b.probability);
  const flips = worst.filter(({ answer }) => answer !== label);
  const heads = flips.filter(({ cut }) => cut.startsWith("h"));
  const found = heads[0] ?? flips[0];
  if (found === undefined) {
    const points = `${percent(probability, 0)} → ${percent(worst[0].probability, 0)}`;
    return `It reads ${classes[label]} whichever part is off; it needs ${full(worst[0].cut)} most (${points}).`;
  }
  const without = `Without ${full(found.cut)}`;
  const what = classes[label].length <= 2 ? `this ${classes[label]}` : `this ${thing(model)} (${classes[label]})`;
  const would = `${what} would be read as ${classes[found.answer]}.`;
  const hasHeads = effects.some(({ cut }) => cut.startsWith("h"));
  return heads.length || !hasHeads ? `${without}, ${would}` : `It can do without any one head. ${without}, ${would}`;
}

/** @param {View} view */
function now({ state, model, reading, empty }) {
  if (!state.cuts.length) return "";
  const off = `Off: ${state.cuts.map(full).join(", ")}.`;
  if (!model || !reading || empty) return off;
  const { classes } = model.config;
  const { whole, probabilities } = reading;
  const [before, after] = [argmax(whole), argmax(probabilities)];
  const change = `${classes[before]}: ${percent(whole[before])} → ${percent(probabilities[before])}.`;
  if (before === after) return `${off} ${change}`;
  return `${off} ${change} It now reads ${classes[after]} (${percent(probabilities[after])}).`;
}

/** @param {Causes} causes @param {Loaded} model */
function key({ label, probability }, { config, cuts }) {
  const name = config.classes[label];
  const mean = cuts.some((cut) => cut.startsWith("m"))
    ? " With its choice off, attention takes the same from every token."
    : "";
  return (
    `Bar: the probability of ${name} without this part, from 0 to 100 %; line: ${percent(probability)}, with everything ` +
    `on. Red stripes: another answer, named beside them.${mean} A block that is off passes its tokens on unchanged.`
  );
}
